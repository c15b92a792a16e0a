"""How local traffic is told, and whose pods the detector tells: this node's, or all nodes'. Pure; every mode asks it.

Under externalTrafficPolicy Local only this node's pods may be sent anywhere with their own address (C1): an endpoint
elsewhere answers a pod of another node past this one, from an address that it never asked. Another node's pod is
therefore what a client outside is: it gets this node's endpoints, or is dropped where there are none (C3).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from msgspec import Struct

from nodeagent.linux import text

Network = IPv4Network | IPv6Network


class Detector(Struct, frozen=True):
    """What the settings of every mode begin with.

    A family without any way to tell (no CIDR and no interface) has no local-traffic detector: nothing is masqueraded
    towards ClusterIPs, and only the node itself counts as inside the cluster.

    Under externalTrafficPolicy Local it matters whose pods those are. An interface, and CIDRs with `node_only`, tell
    this node's. Other CIDRs are of all nodes' pods: the Node's pod CIDRs tell which of them are on this node. A CIDR
    that holds every address tells nothing: then all are taken for this node's.
    """

    cluster_cidrs: tuple[str, ...] = ()  # local are these sources: the pods' networks, at most one used per family
    interface: str = ""  # instead of CIDRs: local is what arrives at this interface, or at any named `prefix*`
    node_only: bool = False  # the CIDRs are those of this node's pods, not of all nodes'
    masquerade_all: bool = False  # towards ClusterIPs, whatever the source
    masquerade_bit: int = 14  # of the packet mark, 0 to 31; set and cleared within one packet's way

    @property
    def mark(self) -> int:
        return 1 << self.masquerade_bit

    def network(self, family: int) -> Network | None:
        """The first of the CIDRs that is of this family (I5). Raises ValueError for a CIDR that is none."""
        networks = map(text.network, self.cluster_cidrs)
        return next((network for network in networks if network.version == family), None)


def of_all_nodes(settings: Detector, family: int) -> Network | None:
    """The network of all nodes' pods; None where the detector tells this node's, or none, or every address is one."""
    network = None if settings.interface or settings.node_only else settings.network(family)
    return network if network is not None and network.prefixlen else None


def of_this_node(settings: Detector, family: int, cidrs: Iterable[str]) -> tuple[Network, ...]:
    """What of the network of all nodes' pods is this node's, by its Node's pod CIDRs. Raises ValueError."""
    network = of_all_nodes(settings, family)
    if network is None:
        return ()
    found = map(text.network, cidrs)
    return tuple(max(one, network, key=lambda each: each.prefixlen) for one in found if one.overlaps(network))
