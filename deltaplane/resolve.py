"""What one Service means on one node: the only place Service semantics are decided, shared by agents and control plane.

Pure: a function of the Service, its EndpointSlices and the node's facts. Follows kube-proxy 1.36 (topology.go,
KEP-1669 terminating endpoints, KEP-2433/4444/3015 topology hints, KEP-2086 internalTrafficPolicy); row ids in comments
are those of docs/behaviour.md. Load-balancer addresses and external IPs are not resolved yet, so nothing is opened that
their source ranges should close.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Hairpin,
    Masquerade,
    ServiceForwarding,
    Target,
    Verdict,
)
from deltaplane.model import (
    Conditions,
    Endpoint,
    EndpointSlice,
    ObjectKey,
    Service,
    ServicePort,
    TrafficPolicy,
    family_of,
)

_READY = int(Conditions.READY)
_FALLBACK = int(Conditions.SERVING | Conditions.TERMINATING)
_TERMINATING = int(Conditions.TERMINATING)
_LOCAL = TrafficPolicy.LOCAL

Candidates = dict[Target, Endpoint]
Targets = tuple[Target, ...]


class NodeView(Struct, frozen=True):
    """The node a Service is resolved for; `zone` is empty when the Node has no zone label."""

    name: str
    zone: str = ""


class _Lists(Struct, frozen=True):
    """The endpoint lists of one service port in one family (behaviour 2.0)."""

    cluster: Targets
    local: Targets
    usable_anywhere: bool
    hairpins: Targets


def resolve(
    key: ObjectKey, service: Service | None, slices: Sequence[EndpointSlice], view: NodeView
) -> ServiceForwarding:
    """The forwarding of the Service named `key`; no entries when `service` is None (deleted or not for a proxy)."""
    if service is None:
        return ServiceForwarding(key)
    entries: list[Entry] = []
    hairpins: set[Hairpin] = set()
    for cluster_ip in service.cluster_ips:
        family = family_of(cluster_ip)
        for port in service.ports:
            lists = _categorise(_candidates(port, family, slices), service, port, view)
            entries.extend(_entries(service, port, cluster_ip, lists))
            hairpins.update(Hairpin(t.address, port.protocol, t.port) for t in lists.hairpins)
    return ServiceForwarding(key, tuple(entries), tuple(sorted(hairpins)))


def _candidates(port: ServicePort, family: int, slices: Iterable[EndpointSlice]) -> Candidates:
    """All endpoints of the port, once each: a terminating copy never replaces another (E7, E8)."""
    found: Candidates = {}
    name, protocol = port.name, port.protocol
    for piece in slices:
        if piece.family != family:
            continue
        for slice_port in piece.ports:
            if slice_port.name != name or slice_port.protocol != protocol or not slice_port.port:
                continue
            number = slice_port.port
            for endpoint in piece.endpoints:
                target = Target(endpoint.address, number)
                if target in found and endpoint.conditions & _TERMINATING:
                    continue
                found[target] = endpoint
    return found


def _categorise(found: Candidates, service: Service, port: ServicePort, view: NodeView) -> _Lists:
    ready = [target for target, endpoint in found.items() if endpoint.conditions & _READY]
    fallback = [] if len(ready) == len(found) else [t for t, e in found.items() if _serves_while_terminating(e)]
    mine = view.name
    cluster: list[Target] = []
    local: list[Target] = []
    if _uses_cluster(service, port):
        cluster = _by_topology(found, ready, view) or fallback
    if _uses_local(service, port):
        local = [t for t in ready if found[t].node == mine] or [t for t in fallback if found[t].node == mine]
    return _Lists(
        cluster=tuple(sorted(cluster)),
        local=tuple(sorted(local)),
        usable_anywhere=bool(ready or fallback),
        hairpins=tuple({t for t in (*cluster, *local) if found[t].node == mine}),
    )


def _serves_while_terminating(endpoint: Endpoint) -> bool:
    return endpoint.conditions & _FALLBACK == _FALLBACK and not endpoint.conditions & _READY


def _uses_cluster(service: Service, port: ServicePort) -> bool:
    return service.internal_traffic_policy != _LOCAL or _is_external(service, port)


def _uses_local(service: Service, port: ServicePort) -> bool:
    external_local = service.external_traffic_policy == _LOCAL and _is_external(service, port)
    return service.internal_traffic_policy == _LOCAL or external_local


def _is_external(service: Service, port: ServicePort) -> bool:
    return bool(port.node_port or service.external_ips or service.load_balancer_ingress)


def _by_topology(found: Candidates, ready: list[Target], view: NodeView) -> list[Target]:
    """Ready endpoints hinted for this node, else its zone, else all: one without a hint disables that kind (D1-D3)."""
    endpoints = [found[t] for t in ready]
    if endpoints and all(e.node_hints for e in endpoints):
        same_node = [t for t in ready if view.name in found[t].node_hints]
        if same_node:
            return same_node
    if view.zone and endpoints and all(e.zone_hints for e in endpoints):
        same_zone = [t for t in ready if view.zone in found[t].zone_hints]
        if same_zone:
            return same_zone
    return ready


def _entries(service: Service, port: ServicePort, cluster_ip: bytes, lists: _Lists) -> Iterator[Entry]:
    family = family_of(cluster_ip)
    internal = lists.local if service.internal_traffic_policy == _LOCAL else lists.cluster
    yield Entry(
        frontend=Frontend(FrontendKind.CLUSTER_IP, family, cluster_ip, port.protocol, port.port),
        port_name=port.name,
        targets=internal,
        verdict=_verdict(internal, lists),
        masquerade=Masquerade.OFF_CLUSTER,
        affinity_seconds=service.session_affinity_seconds,
    )
    if port.node_port:
        yield _node_port_entry(service, port, family, lists)


def _node_port_entry(service: Service, port: ServicePort, family: int, lists: _Lists) -> Entry:
    local = service.external_traffic_policy == _LOCAL
    return Entry(
        frontend=Frontend(FrontendKind.NODE_PORT, family, b"", port.protocol, port.node_port),
        port_name=port.name,
        targets=lists.cluster,
        verdict=_verdict(lists.cluster, lists),
        masquerade=Masquerade.NODE_ONLY if local else Masquerade.ALWAYS,
        local_targets=lists.local if local else None,
        external_verdict=_verdict(lists.local, lists) if local else Verdict.FORWARD,
        affinity_seconds=service.session_affinity_seconds,
    )


def _verdict(targets: Targets, lists: _Lists) -> Verdict:
    """Nowhere at all: refused; somewhere, but not for this node under its policy: dropped (2.0, F1-F3, C2, C3)."""
    if targets:
        return Verdict.FORWARD
    return Verdict.DROP if lists.usable_anywhere else Verdict.REJECT
