"""This node: its Node object, its addresses, where its node ports answer, and what the other Nodes have.

Owned by the agent; reads the mirror, which the session keeps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from math import inf

from msgspec import structs

from deltaplane.forwarding import NodeForwarding
from deltaplane.logs import event
from deltaplane.model import EndpointSlice, Node
from deltaplane.resolve import NodeView
from nodeagent.dataplane.guard import LastGood
from nodeagent.dataplane.outcome import Failed
from nodeagent.dataplane.resolver import API
from nodeagent.node.addresses.node_ports import NodePorts
from nodeagent.node.addresses.selection import parse as parse_policy
from nodeagent.node.cautions import Cautions
from nodeagent.node.own_pods import OwnPods
from nodeagent.node.surroundings import Moved, Surroundings
from nodeagent.stream.mirror import Mirror, Touched

log = logging.getLogger(__name__)


class NodeInfo:
    """`machine` returns this machine's addresses, packed; `bind_address` comes before those of the Node object."""

    def __init__(
        self,
        name: str,
        ports: NodePorts | None = None,
        machine: Callable[[], Collection[bytes]] = frozenset,
        bind_address: bytes | None = None,
        cluster_cidrs: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._ports = ports or NodePorts(parse_policy(("primary",)))
        self._machine = machine
        self._own_pods = OwnPods(name, cluster_cidrs)
        self._surroundings = Surroundings(name, cluster_cidrs)
        self._cautions = Cautions(name)
        self._pod_cidrs: tuple[str, ...] = ()
        self._bind = () if bind_address is None else (bind_address,)
        self._good = LastGood(name)

    def heard(self, mirror: Mirror, touched: Touched | None = None) -> Moved:
        """What a change means for this node. `touched` None: anything may have changed."""
        moved = Moved()
        if touched is None or touched.nodes or touched.service_cidrs or API in touched.services:
            moved = self._good.ask("surroundings", lambda: self._moved(mirror, touched), moved)
        return moved._replace(elsewhere=self._pods_elsewhere(mirror, touched))

    def _pods_elsewhere(self, mirror: Mirror, touched: Touched | None) -> bool:
        """Whether endpoints show for the first time that the Node's pod CIDRs are wrong: those that are new, or where
        its CIDRs may be others, all."""
        slices: Iterable[EndpointSlice]
        if touched is None or self.name in touched.nodes:
            slices = (one for name in mirror.services for one in mirror.slices_of(*name))
        else:
            slices = touched.came
        return self._own_pods.look(self.pod_cidrs(mirror), slices)

    def _moved(self, mirror: Mirror, touched: Touched | None) -> Moved:
        names = None if touched is None else touched.nodes
        service_cidrs = mirror.service_cidrs if touched is None or touched.service_cidrs else None
        servers = (one.address for each in mirror.slices_of(*API) for one in each.endpoints)
        inside = self._surroundings.reserve("the API server", servers)
        moved = self._surroundings.take(mirror.nodes, names, service_cidrs)
        self._cautions.consider(mirror.nodes, self._surroundings)
        return moved._replace(inside=moved.inside or inside)

    def reserve(self, what: str, addresses: Collection[bytes]) -> bool:
        """No ServiceCIDR takes these away, whatever it covers. Returns whether `forwarding` is another now."""
        return self._surroundings.reserve(what, addresses)

    def view(self, mirror: Mirror) -> NodeView:
        """What Services are resolved for: the zone, and the first address of each family."""
        return self._good.ask("zone and addresses", lambda: self._seen(mirror), NodeView(self.name))

    def _seen(self, mirror: Mirror) -> NodeView:
        primary: dict[int, bytes] = {}
        for address in self._addresses(mirror):
            primary.setdefault(len(address), address)
        return NodeView(self.name, self._own(mirror).zone, tuple(sorted(primary.values())))

    def forwarding(self, mirror: Mirror) -> NodeForwarding | None:
        """Node ports and ranges; None while the Node's addresses are awaited, so that open ports stay (B1-B4, L2)."""
        return self._good.ask("node port addresses", lambda: self._concerning(mirror), None)

    def failures(self) -> Iterator[Failed]:
        """The failure of the Node object while its last valid form is in use."""
        return self._good.failures()

    def _concerning(self, mirror: Mirror) -> NodeForwarding | None:
        chosen = self._ports.choose(self._machine(), self._addresses(mirror), time.monotonic())
        if chosen is None:
            return None
        return structs.replace(
            chosen,
            service_cidrs=mirror.service_cidrs,
            taken_cidrs=self._surroundings.inside,
            pod_cidrs=self._own_pods.cidrs(self.pod_cidrs(mirror)),
        )

    @property
    def follows_machine(self) -> bool:
        """Whether a change of the machine's own addresses matters."""
        return self._ports.follows_machine

    def pod_cidrs(self, mirror: Mirror) -> tuple[str, ...]:
        """The Node's own, also when it was deleted; none while they were never known."""
        self._pod_cidrs = self._own(mirror).pod_cidrs or self._pod_cidrs
        return self._pod_cidrs

    def due_in(self, now: float) -> float:
        """Seconds until `forwarding` is to be asked again though nothing changed; infinite: it is not."""
        return inf if self._ports.deadline is None else max(0.0, self._ports.deadline - now)

    def _own(self, mirror: Mirror) -> Node:
        return mirror.nodes.get(self.name) or Node(self.name)

    def _addresses(self, mirror: Mirror) -> tuple[bytes, ...]:
        return (*self._bind, *self._own(mirror).addresses)


class PodCidrs:
    """This Node's pod CIDRs, where they tell local traffic (I5). `follow`, if any, is given them when they change."""

    def __init__(self, follow: Callable[[tuple[str, ...]], None] | None) -> None:
        self._follow = follow
        self._taken: tuple[str, ...] = ()

    def take(self, cidrs: tuple[str, ...]) -> None:
        """They are these now; none: they are not known yet, and what was known stays."""
        if self._follow is None or not cidrs or cidrs == self._taken:
            return
        self._follow(cidrs)
        self._taken = cidrs
        event(log, logging.INFO, "local traffic is told by the Node's pod CIDRs", cidrs=",".join(cidrs))
