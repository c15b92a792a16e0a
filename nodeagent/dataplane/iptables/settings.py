"""What the chains depend on besides the Services: the operator's choices."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_network

from nodeagent.dataplane import local_traffic
from nodeagent.dataplane.local_traffic import Detector
from nodeagent.linux import text


class Settings(Detector, frozen=True):
    """How local traffic is told, what is masqueraded, whether node ports answer on loopback."""

    localhost_node_ports: bool = True  # IPv4 node ports on 127.0.0.0/8, where node ports answer there at all (B5)
    node_port_networks: tuple[str, ...] = ()  # nodePortAddresses as given; only asked for loopback
    random_fully: bool = True
    recalls: bool = True  # session affinity; False: the kernel has no xt_recent
    refuses: bool = True  # who finds no endpoint; False: the kernel has no REJECT, they are dropped
    counted: tuple[str, ...] = ()  # the kernel's counters that rules may count into
    be_liberal: bool = False  # nf_conntrack_tcp_be_liberal: then INVALID packets are not dropped (I6)

    def local(self, family: int) -> str | None:
        """The match of local sources; "": all are local; None: there is no detector."""
        if self.interface:
            return f"-i {self._interface} "
        network = self.network(family)
        if network is None:
            return None
        return f"-s {network} " if network.prefixlen else ""

    def own(self, family: int, pod_cidrs: tuple[str, ...]) -> tuple[str, ...]:
        """The matches of this node's pods; `pod_cidrs` are its Node's. Raises ValueError for a CIDR that is none."""
        if local_traffic.of_all_nodes(self, family) is not None:
            return _own(self, family, pod_cidrs)
        found = self.local(family)
        return () if found is None else (found,)

    def off_cluster(self, family: int) -> tuple[str, str] | None:
        """The matches, before and after the destination, of sources to masquerade towards ClusterIPs; None: none."""
        if self.masquerade_all:
            return "", ""
        if self.interface:
            return "", f"! -i {self._interface} "
        network = self.network(family)
        if network is None or not network.prefixlen:
            return None
        return f"! -s {network} ", ""

    def opens_loopback(self, family: int, *, everywhere: bool) -> bool:
        """Whether node ports answer on 127.0.0.0/8: on every address, or on those of a network that has some of it."""
        if family != 4 or not self.localhost_node_ports:
            return False
        networks = [network for network in map(text.network, self.node_port_networks) if network.version == 4]
        return everywhere or any(network.overlaps(_LOOPBACK) for network in networks)

    @property
    def _interface(self) -> str:
        return text.arriving(self.interface)


@lru_cache(maxsize=16)
def _own(settings: Settings, family: int, pod_cidrs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"-s {part} " for part in local_traffic.of_this_node(settings, family, pod_cidrs))


_LOOPBACK = ip_network("127.0.0.0/8")
