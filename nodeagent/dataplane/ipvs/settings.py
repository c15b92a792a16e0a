"""What the ipvs mode depends on besides the Services: the operator's choices."""

from __future__ import annotations

from nodeagent.dataplane.local_traffic import Detector, Network
from nodeagent.linux import text

PERSISTENT, SOURCE_PORT = 0x1, 0x10  # IP_VS_SVC_F_PERSISTENT, IP_VS_SVC_F_SCHED2: the sh and mh hash has the port


class Settings(Detector, frozen=True):
    """How local traffic is told, what is masqueraded, how IPVS schedules.

    Without a detector, a source that is the ClusterIP itself is masqueraded all the same.
    """

    scheduler: str = "rr"  # any the kernel has; "" means rr
    strict_arp: bool = False  # answer ARP only for addresses of the interface that is asked, announce only those
    exclude_cidrs: tuple[str, ...] = ()  # virtual servers with addresses inside are never deleted
    tcp_timeout: int = 0  # seconds; 0 leaves the kernel's
    tcp_fin_timeout: int = 0
    udp_timeout: int = 0

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

    def excluded(self) -> tuple[Network, ...]:
        """Raises ValueError for a CIDR that is none."""
        return tuple(map(text.network, self.exclude_cidrs))
