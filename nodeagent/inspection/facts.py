"""What the agent knows at one moment, as its inspection reads it. Taken between two calls of the agent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from msgspec import Struct

from deltaplane.explain import Listed, Manner, Site, manner_of
from deltaplane.forwarding import NodeForwarding
from deltaplane.frontends import Frontends
from deltaplane.model import EndpointSlice, ServiceName
from deltaplane.resolve import NodeView
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.config import AgentSettings, Detector
from nodeagent.dataplane.api import Dataplane
from nodeagent.dataplane.read_back import Mannered
from nodeagent.stream.mirror import Mirror


class Facts(Struct, frozen=True):
    """`failed`: what fails now. `node`: None while the Node's addresses are awaited."""

    mirror: Mirror
    frontends: Frontends
    view: NodeView
    node: NodeForwarding | None
    dataplane: Dataplane
    failed: Sequence[pb.ObjectFailure]
    epoch: bytes
    rev: int
    complete: bool
    in_step: bool
    drifted: bool
    welcomed: bool
    brake: pb.Brake | None

    def directory(self) -> Listed:
        """Services as the mirror has them."""
        return Listed(self.frontends, self.mirror.services, _Slices(self.mirror), self.view)


class _Slices(Mapping[ServiceName, Sequence[EndpointSlice]]):
    """The mirror's slices by Service."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def __getitem__(self, name: ServiceName) -> Sequence[EndpointSlice]:
        return self._mirror.slices_of(*name)

    def __iter__(self) -> Iterator[ServiceName]:
        return iter(self._mirror.services)

    def __len__(self) -> int:
        return len(self._mirror.services)


Take = Callable[[], Facts]


def site_of(facts: Facts, settings: AgentSettings, machine: Collection[bytes]) -> Site:
    """This node as its kernel tells clients apart."""
    node = facts.node or NodeForwarding()
    pods, here, assumptions = _pods(settings, node)
    if facts.node is None:
        assumptions += ("the Node's addresses are awaited: node ports answer where they did",)
    return Site(
        name=facts.view.name,
        own=frozenset(machine),
        node=node,
        zone=facts.view.zone,
        pods=pods,
        node_only=here,
        masquerade_all=settings.masquerade_all,
        assumptions=assumptions,
        manner=manner(facts.dataplane),
    )


def manner(dataplane: Dataplane) -> Manner:
    """What the backend does in its own way, with its options."""
    return dataplane.manner() if isinstance(dataplane, Mannered) else manner_of(dataplane.mode)


def _pods(settings: AgentSettings, node: NodeForwarding) -> tuple[tuple[tuple[int, str], ...], bool, tuple[str, ...]]:
    """The networks that tell local traffic, whether they are this node's alone, and what is assumed."""
    if settings.detector is Detector.CLUSTER_CIDR:
        first: dict[int, str] = {}
        for text in settings.cluster_cidrs:
            first.setdefault(6 if ":" in text else 4, text)
        return tuple(first.items()), False, ()
    pods = tuple((6 if ":" in text else 4, text) for text in node.pod_cidrs)
    if settings.detector is Detector.NODE_CIDR:
        return pods, True, ()
    text = "local traffic is told by the interface; a source in the Node's pod CIDRs is taken to arrive there"
    return pods, True, (text,)
