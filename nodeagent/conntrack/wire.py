"""Messages to and from connection tracking (ctnetlink), packed and read: pure.

After `linux/netfilter/nfnetlink_conntrack.h` and `net/netfilter/nf_conntrack_netlink.c`. A dump with CTA_FILTER has the
kernel compare the parts of a tuple that its flags name (Linux 5.8 and later; earlier ones ignore it and hand out all).
Of IPv6 it is asked to compare ports alone: `ctnetlink_filter_match_tuple` compares addresses the wrong way round there,
and hands out every entry but the wanted (seen on 6.18); of SCTP it compares no ports. Of other protocols than UDP it is
asked for entries that nobody answered or translated, by CTA_STATUS_MASK, which earlier kernels ignore likewise. Whoever
reads a dump compares again in any case.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import NamedTuple

from deltaplane.forwarding import Target
from deltaplane.model import WIDTHS, Protocol, family_of
from nodeagent.conntrack.places import Place
from nodeagent.conntrack.query import Flow, Query
from nodeagent.linux.netlink import wire

SUBSYSTEM = 1  # NFNL_SUBSYS_CTNETLINK
NEW, GET, DELETE = (SUBSYSTEM << 8 | number for number in (0, 1, 2))
INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: the table changed its shape under the dump

ORIGINAL, REPLY, ID, ZONE, FILTER = 1, 2, 12, 18, 25  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER
_IP, _PROTO, _TUPLE_ZONE = 1, 2, 3  # CTA_TUPLE_...
_SOURCE = {4: 1, 6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_DESTINATION = {4: 2, 6: 4}
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # CTA_PROTO_...
_BY_SOURCE, _BY_DESTINATION = 1 << 0, 1 << 1  # CTA_FILTER_FLAG(CTA_IP_SRC), ...
_BY_NUMBER, _BY_SOURCE_PORT, _BY_DESTINATION_PORT = 1 << 3, 1 << 4, 1 << 5
_NESTED = 0x8000
STATUS, STATUS_MASK = 3, 26  # CTA_STATUS, CTA_STATUS_MASK
_SEEN_REPLY, _DST_NAT = 1 << 1, 1 << 5  # IPS_SEEN_REPLY, IPS_DST_NAT
_TAKEN = _SEEN_REPLY | _DST_NAT
_UDP = int(Protocol.UDP)

_port = Layout(">H").pack
_flags = Layout("=I").pack  # the one number of ctnetlink in host order
AF = {4: 2, 6: 10}


def dump(query: Query, sequence: int, *, filtered: bool = True) -> bytes:
    """The request for the entries that `query` wants; not `filtered`: for all of its family."""
    body = _filter(query) if filtered else b""
    return wire.message((GET, wire.REQUEST | wire.DUMP, sequence), AF[query.family], body)


def _filter(query: Query) -> bytes:
    family, place, source, protocol = query
    flags, addresses, ports = _BY_NUMBER, b"", b""
    if place is not None:
        flags |= _BY_DESTINATION_PORT | (_BY_DESTINATION if family == 4 else 0)
        addresses = wire.attribute(_DESTINATION[family], place.address)
        ports = wire.attribute(_DESTINATION_PORT, _port(place.port))
    body, answer = _tuple(ORIGINAL, addresses, ports, protocol), 0
    if source is not None:
        answer = _BY_NUMBER | _BY_SOURCE_PORT | (_BY_SOURCE if family == 4 else 0)
        address = wire.attribute(_SOURCE[family], source.address)
        body += _tuple(REPLY, address, wire.attribute(_SOURCE_PORT, _port(source.port)), protocol)
    if protocol != _UDP:
        body += wire.number(STATUS, 0) + wire.number(STATUS_MASK, _TAKEN)
    wanted = wire.attribute(1, _flags(flags)) + (wire.attribute(2, _flags(answer)) if answer else b"")
    return body + _nest(FILTER, wanted)


def _tuple(kind: int, addresses: bytes, ports: bytes, protocol: int) -> bytes:
    inner = _nest(_IP, addresses) if addresses else b""
    return _nest(kind, inner + _nest(_PROTO, wire.number8(_NUMBER, protocol) + ports))


def _nest(kind: int, inner: bytes) -> bytes:
    return wire.attribute(kind | _NESTED, inner)


def delete(flow: Flow, sequence: int, *, answer: bool) -> bytes:
    """The request to delete this very entry; the kernel says when it failed, and with `answer` also when it was done.

    It always names a tuple: a delete without one would empty the whole table. The entry's id says which one of that
    tuple: a newer one has hardly ever the same.
    """
    flags = wire.REQUEST | (wire.ACK if answer else 0)
    family = family_of(flow.place.address)
    parts = wire.attributes(flow.name)
    body = _nest(ORIGINAL, parts[ORIGINAL]) + (wire.attribute(ID, parts[ID]) if ID in parts else b"")
    return wire.message((DELETE, flags, sequence), AF[family], body)


def flow(body: bytes, protocol: int = _UDP) -> Flow | None:
    """The flow of this protocol that a message speaks of; None for others, entries of a zone, what is not understood.

    `body` is the message after its nfgenmsg. Zones are other people's tables within the table.
    """
    if protocol != _UDP:
        return _unusual(body, protocol)
    for layout, heads in _USUAL:
        if body[:12] == heads[0] and len(body) >= layout.size:
            a, client, b, address, c, d, port, e, source, f, g, source_port, following = layout.unpack_from(body)
            if (a, b, c, d, e, f, g) == heads and following != _ZONE_HEAD:
                return Flow(Place(address, port), Target(source, source_port), body, client)
    return _unusual(body)


_Heads = tuple[bytes, ...]


def _usual(family: int) -> tuple[Layout, _Heads]:
    """How the kernel writes the tuples of a UDP entry: where the fields are, and the attribute heads between them."""
    size = WIDTHS[family]
    going = f"12s{size}s4s{size}s9s11x4sH2x"
    coming = f"12s{size}s{size + 4}x9s3x4sH10x"

    def head(length: int, kind: int) -> bytes:
        return wire.ATTRIBUTE.pack(length, kind)

    addresses = 2 * (4 + size) + 4
    opening = head(addresses, _IP | _NESTED) + head(4 + size, _SOURCE[family])
    protocol = head(28, _PROTO | _NESTED) + head(5, _NUMBER) + bytes((_UDP,))
    heads = (
        head(addresses + 32, ORIGINAL | _NESTED) + opening,
        head(4 + size, _DESTINATION[family]),
        protocol,
        head(6, _DESTINATION_PORT),
        head(addresses + 32, REPLY | _NESTED) + opening,
        protocol,
        head(6, _SOURCE_PORT),
    )
    return Layout(f">{going}{coming}4s"), heads


_USUAL = (_usual(4), _usual(6))
_ZONE_HEAD = wire.ATTRIBUTE.pack(6, ZONE)


def _unusual(body: bytes, protocol: int = _UDP) -> Flow | None:
    """The same in whatever order the attributes are."""
    parts = wire.attributes(body)
    original, reply = parts.get(ORIGINAL), parts.get(REPLY)
    if not original or not reply or any(parts.get(ZONE, b"")):
        return None
    going = _end(original, protocol, _DESTINATION, _DESTINATION_PORT)
    client = _address(original, _SOURCE)
    coming = _end(reply, protocol, _SOURCE, _SOURCE_PORT)
    if going is None or coming is None or client is None:
        return None
    return Flow(Place(*going, protocol), Target(*coming), body, client, protocol != _UDP and _waits(parts))


class Ends(NamedTuple):
    """Both directions of an entry: the client and where it connects to; who answers, and whom that one sees."""

    client: bytes
    to: bytes
    to_port: int
    answers: bytes
    answers_port: int
    seen: bytes


def ends(body: bytes, protocol: int) -> Ends | None:
    """The ends of an entry of this protocol; None for others and what is not understood."""
    parts = wire.attributes(body)
    original, reply = parts.get(ORIGINAL, b""), parts.get(REPLY, b"")
    going = _end(original, protocol, _DESTINATION, _DESTINATION_PORT)
    coming = _end(reply, protocol, _SOURCE, _SOURCE_PORT)
    client, seen = _address(original, _SOURCE), _address(reply, _DESTINATION)
    if going is None or coming is None or client is None or seen is None:
        return None
    return Ends(client, *going, *coming, seen)


def _waits(parts: dict[int, bytes]) -> bool:
    status = parts.get(STATUS, b"")
    return len(status) == 4 and not wire.as_number(status) & _TAKEN


def _end(data: bytes, protocol: int, address: dict[int, int], port: int) -> tuple[bytes, int] | None:
    """One end of a tuple of this protocol: address and port."""
    parts = wire.attributes(data)
    proto = wire.attributes(parts.get(_PROTO, b""))
    if _TUPLE_ZONE in parts or proto.get(_NUMBER, b"")[:1] != bytes((protocol,)) or port not in proto:
        return None
    found = _address(data, address)
    return None if found is None else (found, wire.as_number(proto[port]))


def _address(data: bytes, kinds: dict[int, int]) -> bytes | None:
    """An address of a tuple."""
    parts = wire.attributes(wire.attributes(data).get(_IP, b""))
    return next((payload for kind, payload in parts.items() if kind in kinds.values()), None)
