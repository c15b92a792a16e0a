"""What userspace mode depends on besides the Services: the operator's choices and the limits of one agent."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec import Struct

from nodeagent.dataplane.nftables.settings import Settings as Local

TABLE = "deltaplane-userspace"


class Settings(Struct, frozen=True):
    """How local traffic is told (as in nftables mode), how patiently endpoints are tried, how much is held at once.

    `table` also names the chains of iptables (in capitals). The two addresses are put on the loopback interface for the
    listeners alone: a redirect there works whatever addresses the node's interfaces have, and nobody on another link is
    routed to them.
    """

    cluster_cidrs: tuple[str, ...] = ()  # local are these sources: the pods' networks, at most one used per family
    interface: str = ""  # instead of CIDRs: local is what arrives at this interface, or at any named `prefix*`
    table: str = TABLE
    addresses: tuple[str, str] = ("169.254.86.1", "fd64:656c:7461::1")  # where the listeners are, IPv4 and IPv6
    mark_bit: int = 14  # of the packet mark, 0 to 31: connections of the proxy itself, which are never redirected
    redirect: str = ""  # "nft", "iptables", "iptables-legacy", "iptables-nft" or "direct"; empty: the first that works
    connect_timeouts: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)  # seconds for the first, second... silent endpoint
    suspect_seconds: float = 2.0  # an endpoint that failed is asked last for so long
    udp_idle: float = 0.25  # seconds without a datagram after which a UDP client that was answered is forgotten
    udp_patience: float = 5.0  # seconds that a UDP client is remembered while it waits for an answer
    max_connections: int = 8192  # TCP, at once; further ones wait in the kernel's queues
    max_flows: int = 8192  # UDP clients at once; the one idle for longest gives way
    max_clients: int = 65_535  # remembered for session affinity, of one service port
    backlog: int = 1024  # connections that wait to be accepted, of one listener
    node_only: bool = False  # the CIDRs are those of this node's pods, not of all nodes'

    @property
    def local(self) -> Local:
        """The part that nftables mode has as well. Raises ValueError later, for a CIDR that is none."""
        mark, here = self.mark_bit, self.node_only
        return Local(self.cluster_cidrs, self.table, self.interface, masquerade_bit=mark, node_only=here)

    @property
    def mark(self) -> int:
        return 1 << self.mark_bit

    def address(self, family: int) -> bytes:
        """The listeners' address, packed."""
        return ip_address(self.addresses[0 if family == 4 else 1]).packed
