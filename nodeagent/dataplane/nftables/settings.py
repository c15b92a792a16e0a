"""What the program depends on besides the Services: the operator's choices."""

from __future__ import annotations

from msgspec import Struct

from nodeagent.dataplane import local_traffic
from nodeagent.linux import text
from nodeagent.linux.nft import statements as s
from nodeagent.linux.nft.expressions import Network, source

OWN_PODS = "own-pods"  # the set of this node's pod CIDRs


class Settings(Struct, frozen=True):
    """How local traffic is told, what is masqueraded.

    A family without any way to tell (no CIDR and no interface) has no local-traffic detector: nothing is masqueraded
    towards ClusterIPs, and only the node itself counts as inside the cluster.

    Under externalTrafficPolicy Local it matters whose pods those are. An interface, and CIDRs with `node_only`, tell
    this node's. Other CIDRs are of all nodes' pods: the Node's pod CIDRs (`OWN_PODS`) tell which of them are here. A
    CIDR that holds every address tells nothing: then all are taken for this node's.
    """

    cluster_cidrs: tuple[str, ...] = ()  # local are these sources: the pods' networks, at most one used per family
    table: str = "deltaplane"  # the table's name in every family
    interface: str = ""  # instead of CIDRs: local is what arrives at this interface, or at any named `prefix*`
    masquerade_all: bool = False  # towards ClusterIPs, whatever the source
    masquerade_bit: int = 14  # of the packet mark, 0 to 31; set and cleared within one packet's way
    node_only: bool = False  # the CIDRs are those of this node's pods, not of all nodes'

    @property
    def mark(self) -> int:
        return 1 << self.masquerade_bit

    def network(self, family: int) -> Network | None:
        """The first of the CIDRs that is of this family (I5). Raises ValueError for a CIDR that is none."""
        networks = map(text.network, self.cluster_cidrs)
        return next((network for network in networks if network.version == family), None)

    def local(self, family: int) -> tuple[s.Statement, ...] | None:
        """Goes on only for local sources; no statement: all are local; None: there is no detector."""
        if self.interface:
            return (s.arrives_at(self.interface),)
        network = self.network(family)
        if network is None:
            return None
        return (s.inside(source(family), family, network),) if network.prefixlen else ()

    def own(self, family: int) -> tuple[s.Statement, ...] | None:
        """As `local`, for this node's pods only."""
        found = self.local(family)
        return found if self.others(family) is None else (*(found or ()), s.member((source(family),), family, OWN_PODS))

    def others(self, family: int) -> tuple[s.Statement, ...] | None:
        """Goes on only for pods, behind a rule for this node's; None: `local` tells of no other node's."""
        network = local_traffic.of_all_nodes(self, family)
        return None if network is None else (s.inside(source(family), family, network),)

    def off_cluster(self, family: int) -> tuple[s.Statement, ...] | None:
        """Goes on only for sources to be masqueraded towards ClusterIPs; None: there are none."""
        if self.masquerade_all:
            return ()
        if self.interface:
            return (s.arrives_at(self.interface, negate=True),)
        network = self.network(family)
        if network is None or not network.prefixlen:
            return None
        return (s.inside(source(family), family, network, negate=True),)
