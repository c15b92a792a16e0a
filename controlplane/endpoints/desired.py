"""The endpoints that a Service should have, by family and ports. Pure.

Follows k8s.io/endpointslice 0.36: utils.go (podToEndpoint, getEndpointPorts, FindPort) and trafficdist. A Pod whose
Node is unknown is left out until the Node is there, unless the Service publishes what is not ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controlplane.endpoints.objects import Conditions, Endpoint, EndpointPort, ForName, Hints, ObjectReference
from controlplane.endpoints.translate import family_of
from controlplane.endpoints.values import PREFER_NODE, PREFER_ZONE, Node, Pod, Service, ServicePort

Ports = tuple[EndpointPort, ...]
EndpointId = tuple[tuple[str, ...], str, str, str]
Wanted = dict[EndpointId, Endpoint]
Nodes = Callable[[str], Node | None]
"""A Node by its name; None: there is none of this name."""


def id_of(endpoint: Endpoint) -> EndpointId:
    """What stays the same while an endpoint changes in place: addresses, hostname, and the Pod's name."""
    ref = endpoint.target_ref or ObjectReference()
    return (tuple(sorted(endpoint.addresses)), endpoint.hostname or "", ref.namespace, ref.name)


def wanted(service: Service, pods: Iterable[Pod], nodes: Nodes) -> dict[str, dict[Ports, Wanted]]:
    """The endpoints by family and then by ports. Ports that no Pod has an address for have no endpoints."""
    found: dict[str, dict[Ports, Wanted]] = {family: {} for family in service.families}
    for pod in sorted(pods, key=lambda pod: pod.name):
        if pod.terminal or not pod.addresses:
            continue
        ports = endpoint_ports(service, pod)
        for family, groups in found.items():
            group = groups.setdefault(ports, {})
            endpoint = _endpoint(service, pod, nodes, family)
            if endpoint is not None:
                group[id_of(endpoint)] = endpoint
    return found


def _endpoint(service: Service, pod: Pod, nodes: Nodes, family: str) -> Endpoint | None:
    addresses = tuple(sorted(address for address in pod.addresses if family_of(address) == family))
    node = nodes(pod.node)
    if not addresses or (node is None and not service.publish_not_ready):
        return None
    ready = service.publish_not_ready or (pod.ready and not pod.terminating)
    zone = (node.zone or None) if node else None
    return Endpoint(
        addresses=addresses,
        conditions=Conditions(ready, pod.ready, pod.terminating),
        hostname=hostname(service, pod) or None,
        target_ref=reference(pod),
        node_name=pod.node or None,
        zone=zone,
        hints=_hints(service, zone, pod.node) if ready else None,
    )


def reference(pod: Pod) -> ObjectReference:
    return ObjectReference("Pod", pod.namespace, pod.name, pod.uid)


def hostname(service: Service, pod: Pod) -> str:
    """The name that the cluster's DNS gives the Pod in this Service; mostly empty."""
    return pod.hostname if pod.subdomain == service.name else ""


def _hints(service: Service, zone: str | None, node: str) -> Hints | None:
    """For which zones and nodes the endpoint is (KEP-4444, KEP-3015)."""
    if service.topology_mode or service.distribution not in PREFER_ZONE:
        return None
    zones = (ForName(zone),) if zone else None
    nodes = (ForName(node),) if node and service.distribution == PREFER_NODE else None
    return Hints(zones, nodes) if zones or nodes else None


def endpoint_ports(service: Service, pod: Pod) -> Ports:
    """The Service's ports as this Pod has them, in order. A port whose name no container has is left out."""
    found = {(port.name, port.protocol, number, port.app_protocol): number for port, number in _found(service, pod)}
    return in_order(EndpointPort(name, protocol, number, app) for name, protocol, number, app in found)


def _found(service: Service, pod: Pod) -> list[tuple[ServicePort, int]]:
    pairs = ((port, find_port(pod, port)) for port in service.ports)
    return [(port, number) for port, number in pairs if number]


def find_port(pod: Pod, port: ServicePort) -> int:
    """The number of the target port in this Pod; 0: no container has a port of that name and protocol."""
    if isinstance(port.target, int):
        return port.target
    same = (one.port for one in pod.ports if one.name == port.target and one.protocol == port.protocol)
    return next(same, 0)


def in_order(ports: Iterable[EndpointPort]) -> Ports:
    """The ports in one order, so that equal sets are equal values."""
    return tuple(sorted(ports, key=lambda p: (p.name or "", p.protocol or "", p.port or 0, p.app_protocol or "")))
