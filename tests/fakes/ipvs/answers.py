"""What the kernel answers, as bytes: for its twin in memory. Layouts are those of the kernel's headers."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct as Layout

from nodeagent.dataplane.ipvs import names, sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.objects import Held, Real, VirtualKey
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.rtnetlink import AF, LENGTHS, family_of

_LINK, _NAME = Layout("=BxHiII"), 3  # ifinfomsg, IFLA_IFNAME
_ROUTE, _DESTINATION = Layout("=BBBBBBBBI"), 1  # rtmsg, RTA_DST
_UNICAST, _LOCAL = 1, 2  # RTN_*
_HASHED = 0x2  # IP_VS_SVC_F_HASHED
_ACTIVE, _INACTIVE = 7, 8  # IPVS_DEST_ATTR_*_CONNS
_NESTED = 0x8000
_u32 = Layout("=I").pack


def link(index: int, name: str) -> bytes:
    """A link as the kernel shows it."""
    return _LINK.pack(0, 0, index, 0, 0) + wire.text(_NAME, name)


def route(to: bytes, *, local: bool) -> bytes:
    """Where packets to an address go."""
    family = family_of(to)
    return _ROUTE.pack(AF[family], LENGTHS[family], 0, 0, 0, 0, 0, _LOCAL if local else _UNICAST, 0)


def asked(body: bytes) -> bytes:
    """The address whose route is asked for."""
    return wire.attributes(body[_ROUTE.size :]).get(_DESTINATION, b"")


def virtual(key: VirtualKey, held: Held) -> bytes:
    """A virtual server as the kernel lists it."""
    return codec.service(key, held.manner._replace(flags=held.manner.flags | _HASHED))


def real(family: int, server: Real) -> bytes:
    """A real server as the kernel lists it."""
    counts = wire.attribute(_ACTIVE, _u32(server.connections)) + wire.attribute(_INACTIVE, _u32(0))
    inner = wire.attributes(codec.dest(family, server.target, server.weight))[codec.DEST]
    return wire.nest(codec.DEST, inner, counts)


def elements(family: int, name: str, listed: Iterable[tuple[bytes, int]]) -> bytes:
    """A set as the kernel lists it, with these elements: key and mark."""
    kind, width = names.TYPES[name], 4 if family == 4 else 16
    number = 0 if kind == names.BITMAP_PORT else AF[family]
    parts = [wire.attribute(_NESTED | sets.DATA, sets.data(kind, width, key, mark)) for key, mark in listed]
    head = sets.about(names.named(family, name)) + wire.text(sets.TYPENAME, kind) + wire.number8(sets.FAMILY, number)
    return head + wire.attribute(_NESTED | sets.DATA, b"") + wire.attribute(_NESTED | sets.ADT, b"".join(parts))
