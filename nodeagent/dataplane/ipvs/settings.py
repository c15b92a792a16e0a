"""What the ipvs mode depends on besides the Services: the operator's choices."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from msgspec import Struct

from nodeagent.linux import text

Network = IPv4Network | IPv6Network

PERSISTENT, SOURCE_PORT = 0x1, 0x10  # IP_VS_SVC_F_PERSISTENT, IP_VS_SVC_F_SCHED2: the sh and mh hash has the port


class Settings(Struct, frozen=True):
    """How local traffic is told, what is masqueraded, how IPVS schedules.

    A family without any way to tell (no CIDR and no interface) has no local-traffic detector: nothing is masqueraded
    towards ClusterIPs but what has one as its own source, and only the node itself counts as inside the cluster. Whose
    pods they tell: as in nftables mode.
    """

    cluster_cidrs: tuple[str, ...] = ()  # local are these sources: the pods' networks, at most one used per family
    interface: str = ""  # instead of CIDRs: local is what arrives at this interface, or at any named `prefix*`
    masquerade_all: bool = False  # towards ClusterIPs, whatever the source
    masquerade_bit: int = 14  # of the packet mark, 0 to 31
    scheduler: str = "rr"  # any the kernel has; "" means rr
    strict_arp: bool = False  # answer ARP only for addresses of the interface that is asked, announce only those
    exclude_cidrs: tuple[str, ...] = ()  # virtual servers with addresses inside are never deleted
    tcp_timeout: int = 0  # seconds; 0 leaves the kernel's
    tcp_fin_timeout: int = 0
    udp_timeout: int = 0
    node_only: bool = False  # the CIDRs are those of this node's pods, not of all nodes'

    @property
    def mark(self) -> int:
        return 1 << self.masquerade_bit

    @property
    def how(self) -> str:
        """The scheduler."""
        return self.scheduler or "rr"

    @property
    def flags(self) -> int:
        """Of every virtual server, affinity aside: mh hashes the source port too, as kube-proxy has it."""
        return SOURCE_PORT if self.how == "mh" else 0

    @property
    def timeouts(self) -> tuple[int, int, int]:
        """TCP, TCP after a FIN, UDP; in seconds, 0 leaves one alone."""
        return self.tcp_timeout, self.tcp_fin_timeout, self.udp_timeout

    def network(self, family: int) -> Network | None:
        """The first of the CIDRs that is of this family (I5). Raises ValueError for a CIDR that is none."""
        networks = map(text.network, self.cluster_cidrs)
        return next((network for network in networks if network.version == family), None)

    def excluded(self) -> tuple[Network, ...]:
        """Raises ValueError for a CIDR that is none."""
        return tuple(map(text.network, self.exclude_cidrs))
