"""Messages of rtnetlink about links, addresses and routes (`linux/rtnetlink.h`, `linux/if_addr.h`). Pure.

pyroute2, which knows them too, costs the agent 12 MB, an eighth of what it may take with 10,000 Services.
"""

from __future__ import annotations

import sys
from struct import Struct as Layout
from typing import NamedTuple

from nodeagent.linux.netlink import wire

AF = {4: 2, 6: 10}  # AF_INET, AF_INET6
FAMILIES = {number: family for family, number in AF.items()}
LENGTHS = {4: 32, 6: 128}  # bits of an address

NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
GROUP_LINK, GROUP_IPV4, GROUP_IPV6 = 1, 5, 9  # RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
GET_NAMESPACE = 90  # RTM_GETNSID
REPLACE = 0x100
LOOPBACK = 1  # the interface's number, the same in every network namespace
HOST = 254  # RT_SCOPE_HOST

_LINK = Layout("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_IFLA_IFNAME, _IFLA_LINKINFO, _INFO_KIND, _INFO_PORT_KIND = 3, 18, 1, 4
_IFLA_LINK_NETNSID, _NETNSA_NSID, _NETNSA_FD = 37, 1, 3
_ADDRESS = Layout("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, interface
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO = 1, 2, 6  # the peer's, one's own, lifetimes
_NODAD = 0x02
_NEVER_PREFERRED = Layout("=IIII").pack(0, 0xFFFFFFFF, 0, 0)  # ifa_cacheinfo: preferred, valid, two stamps
_ROUTE = Layout("=BBBBBBBBI")  # rtmsg: family, two lengths, tos, table, protocol, scope, type, flags
_DESTINATION, _OUTPUT, _METRIC, _SOURCE = 1, 4, 6, 7  # RTA_*
_LOCAL_TABLE, _KERNELS, _LOCAL = 255, 2, 2  # RT_TABLE_*, RTPROT_*, RTN_*
_METRIC6 = 1024


def family_of(address: bytes) -> int:
    """4 or 6, of a packed address."""
    return 4 if len(address) == 4 else 6


# ---------------------------------------------------------------- links


def link(name: str, kind: str = "") -> bytes:
    """The body that names a link; with a kind, the one to be made."""
    info = wire.nest(_IFLA_LINKINFO, wire.text(_INFO_KIND, kind)) if kind else b""
    return _LINK.pack(0, 0, 0, 0, 0) + wire.text(_IFLA_IFNAME, name) + info


def all_links() -> bytes:
    return _LINK.pack(0, 0, 0, 0, 0)


def read_link(body: bytes) -> tuple[int, str]:
    """Index and name."""
    _, _, index, _, _ = _LINK.unpack_from(body)
    return index, wire.as_text(wire.attributes(body[_LINK.size :]).get(_IFLA_IFNAME, b""))


def read_port(body: bytes) -> tuple[str, str]:
    """Name, and the kind of link that this one is a port of; empty where it is none's."""
    given = wire.attributes(body[_LINK.size :])
    kind = wire.attributes(given.get(_IFLA_LINKINFO, b"")).get(_INFO_PORT_KIND, b"")
    return wire.as_text(given.get(_IFLA_IFNAME, b"?\0")), wire.as_text(kind)


# ---------------------------------------------------------------- namespaces


def namespace(descriptor: int) -> bytes:
    """Asks by which number this network namespace knows the one behind an open file."""
    return bytes(4) + wire.attribute(_NETNSA_FD, descriptor.to_bytes(4, sys.byteorder))


def read_namespace(body: bytes) -> int:
    """The number; -1: it knows it not."""
    return int.from_bytes(wire.attributes(body[4:]).get(_NETNSA_NSID, b"\xff" * 4), sys.byteorder, signed=True)


def read_peers(body: bytes) -> int:
    """The number of the network namespace that a link's other end is in; -1: it has none elsewhere."""
    given = wire.attributes(body[_LINK.size :]).get(_IFLA_LINK_NETNSID, b"\xff" * 4)
    return int.from_bytes(given, sys.byteorder, signed=True)


# ---------------------------------------------------------------- addresses


class Address(NamedTuple):
    """One address on one interface, with nobody else in its network."""

    family: int
    address: bytes
    link: int


class Holding(NamedTuple):
    """One address on one interface; `identity` is what else the kernel tells two of them apart by."""

    address: bytes
    identity: bytes


def address(given: Address, scope: int = 0, *, deprecated: bool = False) -> bytes:
    """The body that names an address. `deprecated`: the kernel never chooses it as a source."""
    six = given.family == 6
    head = _ADDRESS.pack(AF[given.family], LENGTHS[given.family], _NODAD if six else 0, scope, given.link)
    both = wire.attribute(_IFA_LOCAL, given.address) + wire.attribute(_IFA_ADDRESS, given.address)
    return head + both + (wire.attribute(_IFA_CACHEINFO, _NEVER_PREFERRED) if deprecated else b"")


def all_addresses() -> bytes:
    return _ADDRESS.pack(0, 0, 0, 0, 0)


def read_address(body: bytes) -> Address | None:
    """None for what is no address of IPv4 or IPv6."""
    found = read_holding(body)
    if found is None:
        return None
    _, _, _, _, index = _ADDRESS.unpack_from(body)
    return Address(family_of(found.address), found.address, index)


def read_holding(body: bytes) -> Holding | None:
    """None for what is no address of IPv4 or IPv6. Only a point-to-point link of IPv6 tells a peer and one's own."""
    if len(body) < _ADDRESS.size:
        return None
    number, length, _, _, interface = _ADDRESS.unpack_from(body)
    given = wire.attributes(body[_ADDRESS.size :])
    peer = given.get(_IFA_ADDRESS, b"")
    found = given.get(_IFA_LOCAL, peer)
    if len(found) * 8 != LENGTHS.get(FAMILIES.get(number, 0)):
        return None
    return Holding(found, _ADDRESS.pack(number, length, 0, 0, interface) + peer)


# ---------------------------------------------------------------- routes


def route(to: bytes) -> bytes:
    """Asks where packets to an address go."""
    family = family_of(to)
    return _ROUTE.pack(AF[family], LENGTHS[family], 0, 0, 0, 0, 0, 0, 0) + wire.attribute(_DESTINATION, to)


def is_local(body: bytes) -> bool:
    """Whether that is this machine."""
    return len(body) >= _ROUTE.size and body[7] == _LOCAL


def read_source(body: bytes) -> bytes:
    """The address that packets there come from; empty where none is told."""
    return wire.attributes(body[_ROUTE.size :]).get(_SOURCE, b"")


def local(to: bytes, at: int, source: bytes = b"") -> bytes:
    """The body that names the local route of an address at a link; with a source, the one to be made."""
    family = family_of(to)
    head = _ROUTE.pack(AF[family], LENGTHS[family], 0, 0, _LOCAL_TABLE, _KERNELS, HOST, _LOCAL, 0)
    body = head + wire.attribute(_DESTINATION, to) + wire.attribute(_OUTPUT, at.to_bytes(4, sys.byteorder))
    if not source:
        return body
    return body + wire.attribute(_SOURCE, source) + (metric() if family == 6 else b"")


def metric() -> bytes:
    """What tells a route of IPv6 that was made with a source from the kernel's own."""
    return wire.attribute(_METRIC, _METRIC6.to_bytes(4, sys.byteorder))
