"""What is wrong with an object's content, by the rules of the Kubernetes API. Pure; the same for both programs.

The control plane asks before an object becomes a fact, the agent before it is resolved: a replica may be newer, broken
or hostile, and so may a journal. What the API permits passes (validation of pkg/apis/core and pkg/apis/discovery,
Kubernetes 1.36), except for more than `MAX_RANGES` source ranges. Node ports are not judged: an API server may be
given any range of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_network
from typing import Any

from deltaplane.model import (
    EndpointPort,
    EndpointSlice,
    Family,
    IpMode,
    Node,
    Object,
    Protocol,
    Service,
    ServiceCidr,
    ServicePort,
    ServiceType,
    TrafficPolicy,
    family_of,
)
from deltaplane.names import is_label, is_label_value, is_plain, is_subdomain, shown

MAX_AFFINITY_SECONDS = 86400
MAX_RANGES = 5000  # source ranges of one Service: each is a rule or an interval on every node

_CONDITION_BITS = 7
_MAPPED = bytes(10) + b"\xff\xff"
_SPECIAL_FIRST = frozenset({0, 127, 169, 224, 254, 255})  # first bytes that a special address can have


def problem(object_: Object) -> str:
    """`field: reason` of the first thing that is wrong, empty if nothing is. Costs the size of the object."""
    return next(_CHECKS[type(object_)](object_), "")


def is_special(address: bytes) -> bool:
    """Unspecified, loopback or link-local (ValidateNonSpecialIP): of one machine or link, so no Service can mean it."""
    if len(address) == 4:
        return address[0] == 127 or address == bytes(4) or address[:2] == b"\xa9\xfe" or address[:3] == b"\xe0\x00\x00"
    if address[:12] == _MAPPED:
        return is_special(address[12:])
    return (
        (address[:15] == bytes(15) and address[15] < 2)
        or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
        or (address[0] == 0xFF and address[1] & 0x0F == 2)
    )


def _is_multicast(address: bytes) -> bool:
    if len(address) == 4:
        return 224 <= address[0] < 240 or address == b"\xff" * 4
    return address[0] == 0xFF


def _text(address: bytes) -> str:
    return address.hex(":") if len(address) == 16 else ".".join(map(str, address))


@lru_cache(maxsize=1 << 14)
def _is_cidr(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "%" not in text and "/" in text


def _service(service: Service) -> Iterator[str]:
    yield from _named("metadata.namespace", service.namespace, is_label, "DNS label")
    yield from _named("metadata.name", service.name, is_label, "DNS label")
    yield from _one_of("spec.type", service.type, ServiceType)
    yield from _one_of("spec.internalTrafficPolicy", service.internal_traffic_policy, TrafficPolicy)
    yield from _one_of("spec.externalTrafficPolicy", service.external_traffic_policy, TrafficPolicy)
    yield from _service_addresses(service)
    yield from _service_ports(service.ports)
    if not 0 <= service.session_affinity_seconds <= MAX_AFFINITY_SECONDS:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        yield f"{field}: {service.session_affinity_seconds} is not 0..{MAX_AFFINITY_SECONDS}"
    if len(service.load_balancer_source_ranges) > MAX_RANGES:
        yield f"spec.loadBalancerSourceRanges: {len(service.load_balancer_source_ranges)} are more than {MAX_RANGES}"
    yield from _cidrs("spec.loadBalancerSourceRanges", service.load_balancer_source_ranges)


def _service_addresses(service: Service) -> Iterator[str]:
    addresses = service.cluster_ips
    if not addresses or len({family_of(address) for address in addresses}) != len(addresses):
        yield f"spec.clusterIPs: {len(addresses)} addresses are not one of each family"
    for address in addresses:
        if is_special(address) or _is_multicast(address):
            yield f"spec.clusterIPs: {_text(address)} is unspecified, loopback, link-local, multicast or broadcast"
    for address in service.external_ips:
        if is_special(address):
            yield f"spec.externalIPs: {_text(address)} is unspecified, loopback or link-local"
    for ingress in service.load_balancer_ingress:
        yield from _one_of("status.loadBalancer.ingress.ipMode", ingress.ip_mode, IpMode)


def _service_ports(ports: tuple[ServicePort, ...]) -> Iterator[str]:
    yield from _ports("spec.ports", ports)
    if len({port.name for port in ports}) != len(ports):
        yield "spec.ports: two have one name"
    if len({(port.protocol, port.port) for port in ports}) != len(ports):
        yield "spec.ports: two have one protocol and port"


def _slice(slice_: EndpointSlice) -> Iterator[str]:
    yield from _named("metadata.namespace", slice_.namespace, is_label, "DNS label")
    yield from _named("metadata.name", slice_.name, is_subdomain, "DNS subdomain")
    yield from _named("metadata.labels[kubernetes.io/service-name]", slice_.service, is_label_value, "label value")
    yield from _one_of("addressType", slice_.family, Family)
    yield from _ports("ports", slice_.ports)
    yield from _endpoints(slice_)


def _endpoints(slice_: EndpointSlice) -> Iterator[str]:
    """100,000 endpoints in a cold load: most cost a look at the first byte, and texts are checked once per slice."""
    nodes, plain, lists = set(), set(), set()
    for endpoint in slice_.endpoints:
        address = endpoint.address
        if address[0] in _SPECIAL_FIRST and is_special(address):
            yield f"endpoints.addresses: {_text(address)} is unspecified, loopback or link-local"
        if endpoint.conditions > _CONDITION_BITS:
            yield f"endpoints.conditions: {endpoint.conditions} has bits that are not known"
        nodes.add(endpoint.node)
        plain.add(endpoint.zone)
        lists.add(endpoint.zone_hints)
        lists.add(endpoint.node_hints)
    for node in nodes:
        if node:
            yield from _named("endpoints.nodeName", node, is_subdomain, "DNS subdomain")
    for text in plain.union(*lists):
        yield from _named("endpoints.zone or hints", text, is_plain, "short text without control characters")


def _node(node: Node) -> Iterator[str]:
    yield from _named("metadata.name", node.name, is_subdomain, "DNS subdomain")
    yield from _named("metadata.uid", node.uid, is_plain, "short text without control characters")
    yield from _named("metadata.labels[topology.kubernetes.io/zone]", node.zone, is_label_value, "label value")
    yield from _cidrs("spec.podCIDRs", node.pod_cidrs)


def _service_cidr(held: ServiceCidr) -> Iterator[str]:
    yield from _named("metadata.name", held.name, is_subdomain, "DNS subdomain")
    yield from _cidrs("spec.cidrs", held.cidrs)


def _named(field: str, text: str, permitted: Callable[[str], bool], wanted: str) -> Iterator[str]:
    if not permitted(text):
        yield f"{field}: {shown(text)} is no {wanted}"


def _one_of(field: str, value: int, known: Iterable[int]) -> Iterator[str]:
    if value not in [int(item) for item in known]:
        yield f"{field}: {value} is not known to this version"


def _ports(field: str, ports: Iterable[ServicePort | EndpointPort]) -> Iterator[str]:
    for port in ports:
        if port.name:
            yield from _named(f"{field}.name", port.name, is_label, "DNS label")
        yield from _one_of(f"{field}.protocol", port.protocol, Protocol)


def _cidrs(field: str, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if not _is_cidr(text):
            yield f"{field}: {shown(text)} is not a CIDR"


_CHECKS: dict[type, Callable[[Any], Iterator[str]]] = {
    Service: _service,
    EndpointSlice: _slice,
    Node: _node,
    ServiceCidr: _service_cidr,
}
