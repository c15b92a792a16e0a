"""Messages of rtnetlink about routes (linux/rtnetlink.h), as the rest of that is in `wire`. Pure."""

from __future__ import annotations

import sys
from struct import Struct as Layout

from nodeagent.linux.netlink import wire
from nodeagent.program.ipvs.wire import AF, LENGTHS, Address

NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
REPLACE = 0x100
LOOPBACK = 1  # the interface's number, the same in every network namespace
_ROUTE = Layout("=BBBBBBBBI")  # rtmsg: family, two lengths, tos, table, protocol, scope, type, flags
_DESTINATION, _OUTPUT, _METRIC, _SOURCE = 1, 4, 6, 7  # RTA_*
_LOCAL_TABLE, _KERNELS, _HOST, _LOCAL = 255, 2, 254, 2  # RT_TABLE_*, RTPROT_*, RT_SCOPE_*, RTN_*
_METRIC6 = 1024


def route(given: Address) -> bytes:
    """Asks where packets to an address go."""
    head = _ROUTE.pack(AF[given.family], LENGTHS[given.family], 0, 0, 0, 0, 0, 0, 0)
    return head + wire.attribute(_DESTINATION, given.address)


def is_local(body: bytes) -> bool:
    """Whether that is this machine."""
    return len(body) >= _ROUTE.size and body[7] == _LOCAL


def read_source(body: bytes) -> bytes:
    """The address that packets there come from; empty where none is told."""
    return wire.attributes(body[_ROUTE.size :]).get(_SOURCE, b"")


def shown_route(given: Address, local: bool) -> bytes:
    """The answer; for the twin in memory."""
    return _ROUTE.pack(AF[given.family], LENGTHS[given.family], 0, 0, 0, 0, 0, _LOCAL if local else 1, 0)


def read_route(body: bytes) -> bytes:
    """The address that is asked for."""
    return wire.attributes(body[_ROUTE.size :]).get(_DESTINATION, b"")


def local(address: bytes, link: int, source: bytes = b"") -> bytes:
    """The body that names the local route of an address at a link; with a source, the one to be made."""
    family = 4 if len(address) == 4 else 6
    head = _ROUTE.pack(AF[family], LENGTHS[family], 0, 0, _LOCAL_TABLE, _KERNELS, _HOST, _LOCAL, 0)
    body = head + wire.attribute(_DESTINATION, address) + wire.attribute(_OUTPUT, link.to_bytes(4, sys.byteorder))
    if not source:
        return body
    return body + wire.attribute(_SOURCE, source) + (metric() if family == 6 else b"")


def metric() -> bytes:
    """What tells a route of IPv6 that was made with a source from the kernel's own."""
    return wire.attribute(_METRIC, _METRIC6.to_bytes(4, sys.byteorder))
