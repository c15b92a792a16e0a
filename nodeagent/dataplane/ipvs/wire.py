"""Messages of generic netlink's IPVS family (`linux/ip_vs.h`), packed and read: pure.

Numbers are in host order, ports and addresses are not.
"""

from __future__ import annotations

import sys
from struct import Struct as Layout

from deltaplane.forwarding import Target
from deltaplane.model import WIDTHS
from nodeagent.dataplane.ipvs.objects import BY_MARK, Manner, Real, VirtualKey
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.rtnetlink import AF, FAMILIES

# generic netlink: the number of a family by its name
CONTROLLER, GET_FAMILY, FAMILY_NAME, FAMILY_ID = 16, 3, 2, 1

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
SET_CONFIG, GET_CONFIG = 12, 13
SERVICE, DEST = 1, 2  # IPVS_CMD_ATTR_...
TIMEOUTS = (4, 5, 6)  # TCP, TCP after a FIN, UDP
_AF, _PROTOCOL, _ADDR, _PORT, _FWMARK, _SCHEDULER, _FLAGS, _TIMEOUT, _NETMASK = range(1, 10)
_DEST_ADDR, _DEST_PORT, _METHOD, _WEIGHT, _UPPER, _LOWER, _ACTIVE, _INACTIVE = range(1, 9)
_DEST_FAMILY = 11
_HASHED = 0x2  # IP_VS_SVC_F_HASHED: the kernel's own

_u16, _u32, _port, _two = Layout("=H").pack, Layout("=I").pack, Layout(">H").pack, Layout("=II").pack
_NETMASKS = {4: b"\xff\xff\xff\xff", 6: _u32(128)}  # a mask of IPv4, a length of IPv6
_MASQUERADE = wire.attribute(_METHOD, _u32(0))
_THRESHOLDS = wire.attribute(_UPPER, _u32(0)) + wire.attribute(_LOWER, _u32(0))


def number(payload: bytes) -> int:
    """A number in host order."""
    return int.from_bytes(payload, sys.byteorder)


def family_request(name: str, sequence: int) -> bytes:
    body = wire.text(FAMILY_NAME, name)
    return wire.message((CONTROLLER, wire.REQUEST, sequence), GET_FAMILY, body)


def service(key: VirtualKey, manner: Manner | None = None) -> bytes:
    """The attribute that names a virtual server and, with a manner, describes it whole."""
    parts = [wire.attribute(_AF, _u16(AF[key.family]))]
    if key.protocol == BY_MARK:
        parts.append(wire.attribute(_FWMARK, _u32(key.port)))
    else:
        parts += [
            wire.attribute(_PROTOCOL, _u16(key.protocol)),
            wire.attribute(_ADDR, key.address.ljust(16, b"\0")),
            wire.attribute(_PORT, _port(key.port)),
        ]
    if manner is not None:
        parts += [
            wire.text(_SCHEDULER, manner.scheduler),
            wire.attribute(_FLAGS, _two(manner.flags, 0xFFFFFFFF)),
            wire.attribute(_TIMEOUT, _u32(manner.timeout)),
            wire.attribute(_NETMASK, _NETMASKS[key.family]),
        ]
    return wire.nest(SERVICE, *parts)


def dest(family: int, target: Target, weight: int | None = None) -> bytes:
    """The attribute that names a real server and, with a weight, describes it whole: always by address translation."""
    parts = [
        wire.attribute(_DEST_ADDR, target.address.ljust(16, b"\0")),
        wire.attribute(_DEST_PORT, _port(target.port)),
        wire.attribute(_DEST_FAMILY, _u16(AF[family])),
    ]
    if weight is not None:
        parts += [_MASQUERADE, wire.attribute(_WEIGHT, _u32(weight)), _THRESHOLDS]
    return wire.nest(DEST, *parts)


def timeouts(values: tuple[int, int, int]) -> bytes:
    """All three are set at once; seconds."""
    return b"".join(wire.attribute(kind, _u32(value)) for kind, value in zip(TIMEOUTS, values, strict=True))


def read_timeouts(body: bytes) -> tuple[int, int, int]:
    given = wire.attributes(body)
    tcp, fin, udp = (number(given.get(kind, b"")) for kind in TIMEOUTS)
    return tcp, fin, udp


def read_service(body: bytes) -> tuple[VirtualKey, Manner] | None:
    """One entry of the listing; None for what is no virtual server of IPv4 or IPv6."""
    given = wire.attributes(wire.attributes(body).get(SERVICE, b""))
    family = FAMILIES.get(number(given.get(_AF, b"")))
    if family is None:
        return None
    flags = number(given.get(_FLAGS, b"")[:4]) & ~_HASHED
    manner = Manner(wire.as_text(given.get(_SCHEDULER, b"")), flags, number(given.get(_TIMEOUT, b"")))
    if _FWMARK in given and number(given[_FWMARK]):
        return VirtualKey(family, BY_MARK, b"", number(given[_FWMARK])), _timed(manner)
    address = given.get(_ADDR, bytes(16))[: WIDTHS[family]]
    port = int.from_bytes(given.get(_PORT, b""), "big")
    return VirtualKey(family, number(given.get(_PROTOCOL, b"")), address, port), _timed(manner)


def _timed(manner: Manner) -> Manner:
    """Without affinity the timeout says nothing."""
    return manner if manner.flags & 1 else manner._replace(timeout=0)


def read_dest(family: int, body: bytes) -> Real:
    given = wire.attributes(wire.attributes(body).get(DEST, b""))
    address = given.get(_DEST_ADDR, bytes(16))[: WIDTHS[family]]
    target = Target(address, int.from_bytes(given.get(_DEST_PORT, b""), "big"))
    active = number(given.get(_ACTIVE, b""))
    return Real(target, number(given.get(_WEIGHT, b"")), active + number(given.get(_INACTIVE, b"")), active)
