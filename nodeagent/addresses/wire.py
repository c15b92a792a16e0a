"""Address messages of rtnetlink, packed and parsed with `struct`: `linux/rtnetlink.h` and `linux/if_addr.h`. Pure.

Beside the framing of the nftables codec, whose attributes they share. pyroute2, which knows them too, costs the agent
12 MB for this one message type, an eighth of what it may take with 10,000 Services. Called by `monitor` only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from struct import Struct as Layout
from typing import NamedTuple

from nodeagent.linux.netlink import wire

NEW_ADDRESS, DELETED_ADDRESS, GET_ADDRESS = 20, 21, 22  # RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR
GROUP_IPV4, GROUP_IPV6 = 5, 9  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: something changed during the listing, so that it may lack something

_ADDRESS = Layout("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, interface
_LENGTHS = {2: 4, 10: 16}  # bytes of an address, by AF_INET and AF_INET6
_IFA_ADDRESS, _IFA_LOCAL = 1, 2  # the peer's and one's own, of which IPv6 has the second only on a point-to-point link


class Holding(NamedTuple):
    """One address on one interface; `identity` is what else the kernel tells two of them apart by."""

    address: bytes
    identity: bytes


class Notice(NamedTuple):
    """One message: an address is there or gone, or the listing is over (with the kernel's errno), or neither."""

    holding: Holding | None = None
    gone: bool = False
    interrupted: bool = False
    errno: int | None = None  # 0: the listing is complete


def listing(sequence: int) -> bytes:
    """The request for all addresses of all families."""
    body = _ADDRESS.pack(0, 0, 0, 0, 0)
    return wire.frame(GET_ADDRESS, wire.REQUEST | wire.DUMP, sequence, body)


def notices(data: bytes) -> Iterator[Notice]:
    """The messages of one datagram, in order; those about something else say nothing."""
    for kind, flags, _, body, _ in wire.frames(data):
        yield _notice(kind, flags, body)


def _notice(kind: int, flags: int, body: bytes) -> Notice:
    interrupted = bool(flags & INTERRUPTED)
    if kind in (wire.ERROR, wire.DONE):
        errno = -int.from_bytes(body[:4], sys.byteorder, signed=True)
        return Notice(interrupted=interrupted, errno=errno)
    if kind in (NEW_ADDRESS, DELETED_ADDRESS):
        return Notice(_holding(body), kind == DELETED_ADDRESS, interrupted)
    return Notice()


def _holding(body: bytes) -> Holding | None:
    if len(body) < _ADDRESS.size:
        return None
    family, length, _, _, interface = _ADDRESS.unpack_from(body)
    given = wire.attributes(body[_ADDRESS.size :])
    peer = given.get(_IFA_ADDRESS, b"")
    address = given.get(_IFA_LOCAL, peer)
    if len(address) != _LENGTHS.get(family):
        return None
    return Holding(address, _ADDRESS.pack(family, length, 0, 0, interface) + peer)
