"""The product put together for a scenario: what is resolved, with which options, and what the node is told.

Called by the columns that run the product, in place of the agent's wiring. An option that the product does not have
raises `Missing`, which the column reports as a difference like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import signature
from ipaddress import ip_address
from typing import Any, TypeVar

from msgspec.structs import replace

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from deltaplane.resolve import NodeView, resolve
from nodeagent.dataplane.nftables.program import Settings
from nodeagent.node.addresses.selection import parse, select
from tests.flows.scenario import ADDRESSES, CLUSTER_CIDR, NODE_NAME, POD_CIDR, Scenario, Step, View
from tests.flows.twin import twin
from tests.flows.world import World

T = TypeVar("T")


class Missing(Exception):
    """The product cannot do what the scenario asks for."""


class Product:
    """One scenario's state, from objects to forwarding entries. `forwarding`: of every Service there is."""

    def __init__(self, scenario: Scenario) -> None:
        self.view, self.family = scenario.view, scenario.family
        self.world = World()
        self.forwarding: dict[ObjectKey, ServiceForwarding] = {}
        self.most = 0  # elements that the last step may cost: twice all that the touched Services had and have

    def step(self, step: Step) -> list[ServiceForwarding]:
        """What the step changed, resolved; the Services in order of their names."""
        touched = sorted(self.world.apply(step))
        changed = [resolve(key, self.world.service(key), self.world.slices(key), self.node_view()) for key in touched]
        before = [self.forwarding[one.key] for one in changed if one.key in self.forwarding]
        self.most = 2 * sum(map(_size, [*before, *changed]))
        self.forwarding.update({one.key: one for one in changed})
        return changed

    def node_view(self) -> NodeView:
        """What Services are resolved for."""
        node = self.world.node(NODE_NAME)
        return NodeView(NODE_NAME, node.zone if node else self.view.zone, self._primary())

    def _primary(self) -> tuple[bytes, ...]:
        """The Node object's addresses, in its order."""
        node = self.world.node(NODE_NAME)
        usual = (ADDRESSES[0], twin(ADDRESSES[0]))
        return node.addresses if node and node.addresses else tuple(ip_address(text).packed for text in usual)

    def node(self) -> NodeForwarding:
        """What concerns the node itself."""
        machine = (ip_address(text).packed for text in (*self.view.addresses, "127.0.0.1", "::1"))
        chosen = select(parse(self.view.nodeport_addresses), machine, self._primary()).forwarding
        node = self.world.node(NODE_NAME)
        pods = node.pod_cidrs if node and node.pod_cidrs else (POD_CIDR, twin(POD_CIDR))
        return replace(chosen, service_cidrs=self.world.service_cidrs(), pod_cidrs=pods)


def _size(forwarding: ServiceForwarding) -> int:
    """How many elements could say this: for each frontend its own, its chain's and one per target and range."""
    lists = ((e.targets, e.local_targets or (), e.source_ranges, (e.frontend, e.verdict)) for e in forwarding.entries)
    return sum(len(each) for entry in lists for each in entry) + len(forwarding.hairpins)


def settings(view: View) -> Settings:
    """The nftables program's. Raises `Missing`."""
    return make(Settings, cluster_cidrs=cluster_cidrs(view), masquerade_all=view.masquerade_all or None)


def cluster_cidrs(view: View) -> tuple[str, ...]:
    """The pods' networks: the usual ones of both families, or the scenario's own."""
    usual = (CLUSTER_CIDR, twin(CLUSTER_CIDR))
    if view.cluster_cidr in usual:
        return usual
    return (view.cluster_cidr,) if view.cluster_cidr else ()


def make(kind: Callable[..., T], **fields: Any) -> T:
    """A Struct with those fields; one it does not have may only be None, "nothing asked for"."""
    known = set(signature(kind).parameters)
    if lacking := [name for name, value in fields.items() if value is not None and name not in known]:
        raise Missing(f"{getattr(kind, '__name__', kind)} has no {', '.join(lacking)}")
    return kind(**{name: value for name, value in fields.items() if value is not None})


def addresses(texts: Iterable[str]) -> frozenset[bytes]:
    return frozenset(ip_address(text).packed for text in texts)
