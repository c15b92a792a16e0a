"""What userspace mode depends on besides the Services: the operator's choices and the limits of one agent."""

from __future__ import annotations

from ipaddress import ip_address

from nodeagent.dataplane.local_traffic import Detector

TABLE = "deltaplane-userspace"


class Settings(Detector, frozen=True):
    """How local traffic is told, how patiently endpoints are tried, how much is held at once.

    The packet mark is on connections of the proxy itself, which are never redirected; nothing is masqueraded.

    `table` also names the chains of iptables (in capitals). The two addresses are put on the loopback interface for the
    listeners alone: a redirect there works whatever addresses the node's interfaces have, and nobody on another link is
    routed to them.
    """

    table: str = TABLE
    addresses: tuple[str, str] = ("169.254.86.1", "fd64:656c:7461::1")  # where the listeners are, IPv4 and IPv6
    redirect: str = ""  # "nft", "iptables", "iptables-legacy" or "iptables-nft"; empty: the first that works
    connect_timeouts: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)  # seconds for the first, second... silent endpoint
    suspect_seconds: float = 2.0  # an endpoint that failed is asked last for so long
    udp_idle: float = 0.25  # seconds without a datagram after which a UDP client that was answered is forgotten
    udp_patience: float = 5.0  # seconds that a UDP client is remembered while it waits for an answer
    max_connections: int = 8192  # TCP, at once; further ones wait in the kernel's queues
    max_flows: int = 8192  # UDP clients at once; the one idle for longest gives way
    max_clients: int = 65_535  # remembered for session affinity, of one service port
    backlog: int = 1024  # connections that wait to be accepted, of one listener

    def address(self, family: int) -> bytes:
        """The listeners' address, packed."""
        return ip_address(self.addresses[0 if family == 4 else 1]).packed
