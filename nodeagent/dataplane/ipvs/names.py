"""The names kube-proxy's ipvs mode has for its link, sets and chains, so that every tool and `--cleanup` knows them.

Four sets are our own: what is dropped for everybody, what is dropped for outside sources, where connections over IPv6
are reset, and the marks that send outside sources to the endpoints of this node. An element's key is, by the set's
type, the packed address, the protocol's number (one byte) with the port (two, big-endian), a second address, a prefix
length (one byte).
"""

from __future__ import annotations

from typing import NamedTuple

from deltaplane.model import Protocol

DEVICE = "kube-ipvs0"
_LONGEST = 31  # bytes of a set's name, IPSET_MAXNAMELEN less its end

HASH_IP, HASH_IP_PORT, HASH_IP_PORT_IP = "hash:ip", "hash:ip,port", "hash:ip,port,ip"
HASH_IP_PORT_NET, BITMAP_PORT = "hash:ip,port,net", "bitmap:port"


class Element(NamedTuple):
    """A member of a set, or of the link's addresses (`ADDRESS`)."""

    family: int  # 4 or 6
    set: str  # its name for IPv4
    key: bytes


ADDRESS = DEVICE  # the addresses of the link, kept like a set of hash:ip

LOOP_BACK = "KUBE-LOOP-BACK"
CLUSTER_IP = "KUBE-CLUSTER-IP"
EXTERNAL_IP = "KUBE-EXTERNAL-IP"
EXTERNAL_IP_LOCAL = "KUBE-EXTERNAL-IP-LOCAL"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
LOAD_BALANCER_LOCAL = "KUBE-LOAD-BALANCER-LOCAL"
LOAD_BALANCER_FW = "KUBE-LOAD-BALANCER-FW"
SOURCE_CIDR = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
SOURCE_IP = "KUBE-LOAD-BALANCER-SOURCE-IP"
HEALTH_CHECK = "KUBE-HEALTH-CHECK-NODE-PORT"
IPVS_IPS = "KUBE-IPVS-IPS"
DROP = "KUBE-IPVS-DROP"
DROP_OUTSIDE = "KUBE-IPVS-DROP-OUTSIDE"
RESET = "KUBE-IPVS-RESET"
OUTSIDE_MARK = "KUBE-IPVS-OUTSIDE-MARK"

_SUFFIXES = {int(each): f"{each.name}{'-HASH' if each == Protocol.SCTP else ''}" for each in Protocol}
NODE_PORT = {number: f"KUBE-NODE-PORT-{suffix}" for number, suffix in _SUFFIXES.items()}  # by protocol
NODE_PORT_LOCAL = {number: f"KUBE-NODE-PORT-LOCAL-{suffix}" for number, suffix in _SUFFIXES.items()}

TYPES = {
    LOOP_BACK: HASH_IP_PORT_IP,
    CLUSTER_IP: HASH_IP_PORT,
    EXTERNAL_IP: HASH_IP_PORT,
    EXTERNAL_IP_LOCAL: HASH_IP_PORT,
    LOAD_BALANCER: HASH_IP_PORT,
    LOAD_BALANCER_LOCAL: HASH_IP_PORT,
    LOAD_BALANCER_FW: HASH_IP_PORT,
    SOURCE_CIDR: HASH_IP_PORT_NET,
    SOURCE_IP: HASH_IP_PORT_IP,
    **{name: HASH_IP_PORT if number == Protocol.SCTP else BITMAP_PORT for number, name in NODE_PORT.items()},
    **{name: HASH_IP_PORT if number == Protocol.SCTP else BITMAP_PORT for number, name in NODE_PORT_LOCAL.items()},
    HEALTH_CHECK: BITMAP_PORT,
    IPVS_IPS: HASH_IP,
    DROP: HASH_IP_PORT,
    DROP_OUTSIDE: HASH_IP_PORT,
    RESET: HASH_IP_PORT,
    OUTSIDE_MARK: HASH_IP_PORT,
}
MARKED = frozenset({OUTSIDE_MARK})  # sets whose elements carry a packet mark (skbinfo)
KNOWN = (CLUSTER_IP, EXTERNAL_IP, EXTERNAL_IP_LOCAL, LOAD_BALANCER)  # address and port of everything but node ports


def named(family: int, name: str) -> str:
    """A set's name in the kernel: those of IPv6 have a 6 in it, and are cut at 31 bytes."""
    return name if family == 4 else f"KUBE-6-{name.removeprefix('KUBE-')}"[:_LONGEST]


def place(address: bytes, protocol: int, port: int) -> bytes:
    """The key of an address and port."""
    return address + protocol.to_bytes(1, "big") + port.to_bytes(2, "big")
