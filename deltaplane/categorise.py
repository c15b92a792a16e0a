"""Which endpoints a service port has on one node: the lists behind its frontends.

Called by `resolve` for every port and family. Follows pkg/proxy/topology.go of kube-proxy 1.36 (KEP-1669 terminating
endpoints; KEP-2433, KEP-4444 and KEP-3015 topology hints) and endpointslicecache.go for merging slices.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from deltaplane.copies import preferred
from deltaplane.forwarding import Target
from deltaplane.model import Conditions, Endpoint, EndpointSlice, Protocol, Service, ServicePort, TrafficPolicy

_READY = int(Conditions.READY)
_SERVING = int(Conditions.SERVING)
_TERMINATING = int(Conditions.TERMINATING)
_FALLBACK = _SERVING | _TERMINATING
_LOCAL = TrafficPolicy.LOCAL

_new = tuple.__new__

Candidates = dict[Target, Endpoint]
Targets = tuple[Target, ...]


class EndpointLists(Struct, frozen=True):
    """The endpoint lists of one service port in one family (behaviour 2.0), sorted."""

    cluster: Targets
    local: Targets
    usable_anywhere: bool
    hairpins: Targets  # those of either list that are, or may be, on this node, in no particular order
    serving: Targets = ()  # UDP only: every serving endpoint whatever the policy, whose tracked flows stay (J2)


def candidates(port: ServicePort, family: int, slices: Iterable[EndpointSlice]) -> Candidates:
    """All endpoints of the port, once each: of several copies the preferred, in any order (E7, E8)."""
    found: Candidates = {}
    name, protocol = port.name, port.protocol
    for piece in slices:
        if piece.family != family:
            continue
        for slice_port in piece.ports:
            if slice_port.name != name or slice_port.protocol != protocol or not slice_port.port:
                continue
            number = slice_port.port
            for endpoint in piece.endpoints:  # 100,000 times in a cold load: what `Target` calls, called at once
                target = _new(Target, (endpoint.address, number))
                if found.setdefault(target, endpoint) is not endpoint:
                    found[target] = preferred(found[target], endpoint)
    return found


def categorise(found: Candidates, service: Service, port: ServicePort, node: str, zone: str) -> EndpointLists:
    """The lists for the node named `node` in `zone` ("" when it has no zone label)."""
    ready = [target for target, endpoint in found.items() if endpoint.conditions & _READY]
    fallback = [] if len(ready) == len(found) else [t for t, e in found.items() if _serves_while_terminating(e)]
    cluster: list[Target] = []
    local: list[Target] = []
    if _uses_cluster(service, port):
        cluster = _by_topology(found, ready, node, zone) or fallback
    if _uses_local(service, port):
        local = [t for t in ready if found[t].node == node] or [t for t in fallback if found[t].node == node]
    serving = () if port.protocol != Protocol.UDP else sorted(t for t, e in found.items() if e.conditions & _SERVING)
    return EndpointLists(
        cluster=tuple(sorted(cluster)),
        local=tuple(sorted(local)),
        usable_anywhere=bool(ready or fallback),
        hairpins=tuple({t for t in (*cluster, *local) if found[t].node in (node, "")}),
        serving=tuple(serving),
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


def _by_topology(found: Candidates, ready: list[Target], node: str, zone: str) -> list[Target]:
    """Ready endpoints hinted for this node, else its zone, else all: one without a hint disables that kind (D1-D3)."""
    endpoints = [found[t] for t in ready]
    if endpoints and all(e.node_hints for e in endpoints):
        same_node = [t for t in ready if node in found[t].node_hints]
        if same_node:
            return same_node
    if zone and endpoints and all(e.zone_hints for e in endpoints):
        same_zone = [t for t in ready if zone in found[t].zone_hints]
        if same_zone:
            return same_zone
    return ready
