"""The rules that have one flow traced, in a table of their own. Needs CAP_NET_ADMIN.

The table belongs to the netlink socket that made it (NFT_TABLE_F_OWNER): the kernel removes it when that socket closes,
whatever ends the process. Kernels before 5.12 know no owners: there it is deleted at the end, and one that a killed
process left is deleted before the next trace.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address, ip_network

from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import objects, tables
from nodeagent.linux.nft import statements as s
from nodeagent.linux.nft.kernel import Kernel, NetlinkKernel
from nodeagent.linux.nft.objects import Chain, Hook, Table, rule
from nodeagent.linux.nft.program import Part
from nodeagent.linux.nft.transaction import Batch
from nodeagent.tracing.flow import Flow

TABLE = "deltaplane-trace"
FIRST = -310  # before the raw table's chains
TRACKED = -199  # after connection tracking (NF_IP_PRI_CONNTRACK): an answer is known by its connection
ANSWERS = "answers-"  # what the names of chains for answers begin with
_OWNED, _NFTRACE = 0x2, 12  # NFT_TABLE_F_OWNER, NFT_META_NFTRACE
_DIRECTION, _PROTOCOL, _PORT = 1, 10, 12  # NFT_CT_DIRECTION, NFT_CT_PROTOCOL, NFT_CT_PROTO_DST
_SOURCE, _DESTINATION, _SOURCE6, _DESTINATION6 = 19, 20, 21, 22  # NFT_CT_SRC_IP to NFT_CT_DST_IP6
_NO_OWNERS = (errno.EOPNOTSUPP, errno.EINVAL)
_OTHERS = (errno.EPERM, errno.EBUSY, errno.EEXIST)


@contextmanager
def marked(flow: Flow) -> Iterator[None]:
    """New packets of the flow are traced meanwhile. Raises KernelUnavailable."""
    with closing(NetlinkKernel()) as kernel:
        remove_leftover(kernel, flow.family)
        owned = _install(kernel, flow)
        try:
            yield
        finally:
            if not owned:
                tables.delete(kernel, [TABLE])


def remove_leftover(kernel: Kernel, family: int) -> None:
    """Deletes what a trace left that was killed on a kernel without owners. Raises KernelUnavailable for a live one."""
    if not tables.is_there(kernel, Table(family, TABLE)):
        return
    try:
        tables.delete(kernel, [TABLE])
    except KernelUnavailable as error:
        raise KernelUnavailable(
            f"table {TABLE} is another trace's that runs on this node: wait until it has ended"
        ) from error


def _install(kernel: Kernel, flow: Flow) -> bool:
    """Whether the kernel knows whose it is, and removes it by itself."""
    for flags in (_OWNED, 0):
        code = _offered(kernel, flow, flags)
        if not code:
            return bool(flags)
        if code not in _NO_OWNERS or not flags:
            raise KernelUnavailable(f"the kernel refuses to trace ({os.strerror(code)}): run this as root on the node")
    raise AssertionError("both were tried")


def _offered(kernel: Kernel, flow: Flow, flags: int) -> int:
    batch = Batch(TABLE, 1)
    batch.add(objects.NEW_TABLE, wire.CREATE | wire.EXCLUSIVE, flow.family, wire.text(1, TABLE) + wire.number(2, flags))
    batch.part(flow.family, Part(_chains(flow)))
    replies = kernel.commit(batch.data(), batch.first, batch.last)
    return next((reply.errno for reply in replies if reply.errno), 0)


def _chains(flow: Flow) -> tuple[Chain, ...]:
    """Where packets come in, and where the node's own begin; of answers also."""
    asking = rule(
        s.inside(x.source(flow.family), flow.family, ip_network(flow.source)),
        s.inside(x.destination(flow.family), flow.family, ip_network(flow.address)),
        _protocol(flow.protocol),
        _port(flow.port),
        _trace(),
    )
    answering = rule(*_answers(flow), _trace())
    return tuple(
        Chain(f"{name}{hook}", (following,), Hook("filter", hook, priority))
        for name, following, priority in (("", asking, FIRST), (ANSWERS, answering, TRACKED))
        for hook in ("prerouting", "output")
    )


def _answers(flow: Flow) -> Iterator[s.Statement]:
    """Packets of the other direction of a connection that was asked for as the flow is."""
    name = x.LAYOUTS[flow.family].name
    source, destination = {4: (_SOURCE, _DESTINATION), 6: (_SOURCE6, _DESTINATION6)}[flow.family]
    yield _tracked("direction reply", _DIRECTION, b"\1")
    yield _tracked(f"original {name} saddr {ip_address(flow.source)}", source, flow.source, original=True)
    yield _tracked(f"original {name} daddr {ip_address(flow.address)}", destination, flow.address, original=True)
    yield _tracked(f"original protocol {flow.protocol}", _PROTOCOL, bytes((flow.protocol,)), original=True)
    yield _tracked(f"original proto-dst {flow.port}", _PORT, flow.port.to_bytes(2, "big"), original=True)


def _tracked(text: str, key: int, wanted: bytes, *, original: bool = False) -> s.Statement:
    """Goes on only where connection tracking knows this of the packet's connection."""
    direction = wire.attribute(3, b"\0") if original else b""
    return s.Statement(
        f"ct {text}", (x.Expression("ct", wire.number(1, 1) + wire.number(2, key) + direction), x.compare(wanted))
    )


def _protocol(number: int) -> s.Statement:
    return s.Statement(f"meta l4proto {number}", (x.meta(x.META_L4PROTO, 1), x.compare(bytes((number,)))))


def _port(number: int) -> s.Statement:
    return s.Statement(
        f"th dport {number}", (x.payload(x.TRANSPORT_HEADER, 2, 2, 1), x.compare(number.to_bytes(2, "big")))
    )


def _trace() -> s.Statement:
    one = x.Expression("immediate", wire.number(1, 1) + wire.nest(2, x.value(b"\1")))
    setting = x.Expression("meta", wire.number(2, _NFTRACE) + wire.number(3, 1))
    return s.Statement("meta nftrace set 1", (one, setting))
