"""What the kernel tells of traced packets and of new connections, read: pure. After `linux/netfilter/nf_tables.h`."""

from __future__ import annotations

from nodeagent.conntrack import wire as conntrack
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import expressions as x
from nodeagent.tracing.flow import Destination, Flow, Step, Translated

TRACE_GROUP, CONNECTIONS_GROUP = 9, 1  # NFNLGRP_NFTRACE, NFNLGRP_CONNTRACK_NEW
TRACE = wire.SUBSYSTEM << 8 | 17  # NFT_MSG_TRACE
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID, _POLICY = 1, 2, 3, 4, 5, 6, 16  # NFTA_TRACE_...
_NETWORK, _TRANSPORT = 8, 9  # the packet's headers, with the first message of each base chain
_ADDRESS = {4: slice(16, 20), 6: slice(24, 40)}  # the destination, by the header's version
_PORT = slice(2, 4)  # the destination's, in TCP, UDP and SCTP
_IS_POLICY, _IS_RULE = 1, 3  # NFT_TRACETYPE_...
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -2: "break", -5: "return"}
_BRANCHES = {x.JUMP: "jump", x.GOTO: "goto"}


def step(message: wire.Message) -> Step | None:
    """What a message of the trace group says; None for what is no step."""
    if message.type != TRACE:
        return None
    given = wire.attributes(message.body)
    kind = wire.as_number(given.get(_TYPE, b""))
    if kind == _IS_RULE and _HANDLE in given:  # the end of a chain has none
        verdict, handle = _verdict(given.get(_VERDICT, b"")), wire.as_number(given.get(_HANDLE, b""))
    elif kind == _IS_POLICY:
        verdict, handle = _VERDICTS.get(wire.as_number(given.get(_POLICY, b"")), "?"), 0
    else:
        return None
    family = x.FAMILY_NAMES.get(message.family, str(message.family))
    table = f"{family} {wire.as_text(given.get(_TABLE, b''))}"
    return Step(wire.as_number(given.get(_ID, b"")), table, wire.as_text(given.get(_CHAIN, b"")), handle, verdict)


def destination(message: wire.Message) -> Destination | None:
    """Where the packet is going, where a message of the trace group has its headers."""
    if message.type != TRACE:
        return None
    given = wire.attributes(message.body)
    network, transport = given.get(_NETWORK, b""), given.get(_TRANSPORT, b"")
    place = _ADDRESS.get(network[0] >> 4) if network else None
    if place is None or len(network) < place.stop or len(transport) < _PORT.stop:
        return None
    port = int.from_bytes(transport[_PORT], "big")
    return Destination(wire.as_number(given.get(_ID, b"")), network[place], port)


def _verdict(body: bytes) -> str:
    code, chain = x.read_verdict(body)
    if code in _BRANCHES:
        return f"{_BRANCHES[code]} {chain}"
    return _VERDICTS.get(code if code < 0 else code & 0xFF, str(code))


def translated(message: wire.Message, flow: Flow) -> Translated | None:
    """What a new connection became, where it is the flow's; None: another's."""
    if message.type != conntrack.NEW:
        return None
    ends = conntrack.ends(message.body, flow.protocol)
    if ends is None:
        return None
    if (ends.client, ends.to, ends.to_port) != (flow.source, flow.address, flow.port):
        return None
    return Translated(ends.answers, ends.answers_port, ends.seen)
