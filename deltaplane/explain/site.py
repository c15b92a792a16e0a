"""The node at which a connection is looked at: its addresses, its node ports, and how it tells its clients apart."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from msgspec import Struct

from deltaplane.explain.manner import Manner
from deltaplane.forwarding import NodeForwarding
from deltaplane.model import family_of

Network = IPv4Network | IPv6Network
_LOOPBACK = ip_address("127.0.0.1").packed


class Client(Enum):
    """Whose connection it is, as the node tells it by the source address."""

    NODE = "the node itself"
    POD = "a pod of this node"
    OTHER_POD = "a pod of another node"
    EXTERNAL = "a client outside the cluster"


class Site(Struct, frozen=True):
    """`own`: every address of the machine, packed. `pods`: the networks by which local traffic is told, each with its
    family; a family without any has no detector. `node_only`: they are of this node's pods alone.

    `manner`: what its proxy mode does in its own way. `assumptions`: what was taken for granted, for a person.
    """

    name: str
    own: frozenset[bytes]
    node: NodeForwarding
    zone: str = ""
    pods: tuple[tuple[int, str], ...] = ()
    node_only: bool = False
    masquerade_all: bool = False
    assumptions: tuple[str, ...] = ()
    manner: Manner = Manner()

    def detectors(self, family: int) -> list[Network]:
        """The networks that tell local traffic of this family."""
        return [network(text) for of, text in self.pods if of == family]

    def detected(self, source: bytes) -> bool:
        """Whether the source counts as local traffic."""
        return any(ip_address(source) in found for found in self.detectors(family_of(source)))

    def client(self, source: bytes) -> Client:
        """Whose address it is."""
        if source in self.own or ip_address(source).is_loopback:
            return Client.NODE
        if not self.detected(source):
            return Client.EXTERNAL
        found = self.detectors(family_of(source))
        if self.node_only or not all(each.prefixlen for each in found):
            return Client.POD
        here = any(ip_address(source) in network(text) for text in self.node.pod_cidrs)
        return Client.POD if here else Client.OTHER_POD

    def is_node_port_address(self, address: bytes) -> bool:
        """Whether node ports answer at this address."""
        everywhere = family_of(address) in self.node.match_all_families
        if ip_address(address).is_loopback:
            return self.manner.loopback and len(address) == 4 and (everywhere or address == _LOOPBACK)
        return address in self.node.node_port_addresses or (everywhere and address in self.own)

    def is_service_address(self, address: bytes) -> bool:
        """Whether it is in a range that Services get addresses of, and not in use by Nodes or pods."""
        return _within(address, self.node.service_cidrs) and not _within(address, self.node.taken_cidrs)


def _within(address: bytes, cidrs: tuple[str, ...]) -> bool:
    found = ip_address(address)
    return any(found in network(text) for text in cidrs)


@lru_cache(maxsize=1024)
def network(text: str) -> Network:
    """A CIDR, parsed."""
    return ip_network(text, strict=False)
