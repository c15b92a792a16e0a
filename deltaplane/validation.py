"""What an object must be like for a Service proxy to act on it: names, addresses, ports and words. Pure.

Called where objects enter either program: by the control plane's translation, and by the agent's mirror for what a
replica or the journal says, which may be hostile, broken, or of a newer version. `problem` gives the first thing that
is wrong as `field: reason`; an object with a problem is never programmed, and the last good one stays. The rules are
those of the API server (k8s.io/kubernetes/pkg/apis/core/validation, ValidateNonSpecialIP, and discovery/validation).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_network

from deltaplane.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IpMode,
    Kind,
    Node,
    Object,
    ObjectKey,
    Protocol,
    Service,
    ServiceCidr,
    ServicePort,
    ServiceType,
    TrafficPolicy,
    family_of,
)
from deltaplane.names import (
    is_label,
    is_label_value,
    is_plain,
    is_subdomain,
    matches_label,
    matches_label_value,
    matches_subdomain,
    shown,
    shown_address,
)

MAX_AFFINITY_SECONDS = 86400
MAX_CLUSTER_IPS = 2
MAX_RANGES = 5000  # source ranges of one Service; the API has no limit, but each is a rule or an interval on every node
NODES_OWN_PORTS = frozenset({22, 2379, 2380, 6443, 10250})
"""SSH, etcd, the API server and the kubelet: how a node and its cluster are reached. No Service may take them away; the
API server's default range for node ports (30000-32767) has none of them."""

_SERVICE, _SLICE = Kind.SERVICE, Kind.ENDPOINT_SLICE
_PROTOCOLS, _TYPES, _POLICIES, _MODES = map(frozenset, (Protocol, ServiceType, TrafficPolicy, IpMode))


def problem(object_: Object, key: ObjectKey | None = None) -> str:
    """The first thing that is wrong with it, as `field: reason`; empty: nothing. `key`: its own, if at hand."""
    name = key_problem(key or object_.key)
    if name:
        return name
    if isinstance(object_, Service):
        return _service(object_)
    if isinstance(object_, EndpointSlice):
        return header_problem(object_) or endpoints_problem(object_.endpoints)
    return _node(object_) if isinstance(object_, Node) else _service_cidr(object_)


def key_problem(key: ObjectKey) -> str:
    """What is wrong with an object's name."""
    kind, namespace, name = key
    if (kind is _SERVICE or kind is _SLICE) and not is_label(namespace):
        return f"metadata.namespace: {shown(namespace)} is not a DNS-1123 label"
    if kind is _SERVICE:
        return "" if matches_label(name) else f"metadata.name: {shown(name)} is not a DNS-1123 label"
    return "" if matches_subdomain(name) else f"metadata.name: {shown(name)} is not a DNS-1123 subdomain"


@lru_cache(maxsize=1 << 12)
def special(address: bytes) -> str:
    """Why no traffic may be sent to this address, 4 or 16 bytes; empty: it may."""
    first, second = address[0], address[1]
    if not any(address):
        return "is the unspecified address"
    if len(address) == 4:
        loopback, link_local, multicast = first == 127, (first, second) == (169, 254), first >> 4 == 14
    else:
        loopback = not any(address[:15]) and address[15] == 1
        link_local, multicast = first == 0xFE and second >> 6 == 2, first == 0xFF
    reasons = {"is a loopback address": loopback, "is link-local": link_local, "is a multicast address": multicast}
    return next((reason for reason, holds in reasons.items() if holds), "")


def _is_plain(address: bytes) -> bool:
    """Whether an address is surely not special, at the cost of a look at two bytes: 100,000 times in a cold load."""
    first = address[0]
    return 0 < first < 224 and first != 127 and not (first == 169 and address[1] == 254)


def _addresses(field: str, addresses: Iterable[bytes]) -> str:
    for index, address in enumerate(addresses):
        if not _is_plain(address) and (reason := special(address)):
            return f"{field}[{index}]: {shown_address(address)} {reason}"
    return ""


def _service(service: Service) -> str:
    ranges = len(service.load_balancer_source_ranges)
    if ranges > MAX_RANGES:
        return f"spec.loadBalancerSourceRanges: {ranges} of them, and {MAX_RANGES} is the limit"
    return (
        _words(service)
        or _cluster_ips(service.cluster_ips)
        or _service_ports(service.ports)
        or _addresses("spec.externalIPs", service.external_ips)
        or _addresses("status.loadBalancer.ingress", [ingress.ip for ingress in service.load_balancer_ingress])
        or cidrs_problem("spec.loadBalancerSourceRanges", service.load_balancer_source_ranges)
    )


def _words(service: Service) -> str:
    words = [
        ("spec.type", service.type, _TYPES),
        ("spec.internalTrafficPolicy", service.internal_traffic_policy, _POLICIES),
        ("spec.externalTrafficPolicy", service.external_traffic_policy, _POLICIES),
    ]
    ingress_mode = "status.loadBalancer.ingress.ipMode"
    words += [(ingress_mode, ingress.ip_mode, _MODES) for ingress in service.load_balancer_ingress]
    for field, value, known in words:
        if value not in known:
            return f"{field}: {value} is not known to this version"
    if not 0 <= service.session_affinity_seconds <= MAX_AFFINITY_SECONDS:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        return f"{field}: {service.session_affinity_seconds} is not 1..{MAX_AFFINITY_SECONDS}"
    return _own("spec.healthCheckNodePort", service.health_check_node_port)


def _own(field: str, port: int) -> str:
    return f"{field}: {port} is how the node itself is reached" if port in NODES_OWN_PORTS else ""


def _cluster_ips(addresses: tuple[bytes, ...]) -> str:
    number = len(addresses)
    if number != 1 and (not 0 < number <= MAX_CLUSTER_IPS or len({family_of(each) for each in addresses}) != number):
        return f"spec.clusterIPs: {len(addresses)} addresses, where one or one of each family is expected"
    return _addresses("spec.clusterIPs", addresses)


def _service_ports(ports: tuple[ServicePort, ...]) -> str:
    if len(ports) > 1 and len({port.name for port in ports}) != len(ports):
        return "spec.ports: two have one name"
    if len(ports) > 1 and len({(port.protocol, port.port) for port in ports}) != len(ports):
        return "spec.ports: two have one protocol and port"
    for index, port in enumerate(ports):
        if wrong := _port(port):
            return f"spec.ports[{index}].{wrong}"
        if wrong := _own("nodePort", port.node_port):
            return f"spec.ports[{index}].{wrong}"
    return ""


def _port(port: ServicePort | EndpointPort) -> str:
    if port.name and not is_label(port.name):
        return f"name: {shown(port.name)} is not a DNS-1123 label"
    return "" if port.protocol in _PROTOCOLS else f"protocol: {port.protocol} is not TCP, UDP or SCTP"


def header_problem(slice_: EndpointSlice) -> str:
    """The first thing that is wrong with a slice apart from its name and its endpoints."""
    if not slice_.service or not matches_label_value(slice_.service):
        return f"metadata.labels[kubernetes.io/service-name]: {shown(slice_.service)} is not a Service's name"
    for index, port in enumerate(slice_.ports):
        if wrong := _port(port):
            return f"ports[{index}].{wrong}"
    return ""


def endpoints_problem(endpoints: Iterable[Endpoint]) -> str:
    """The first thing that is wrong with these endpoints of a slice."""
    for endpoint in endpoints:
        address = endpoint.address
        if not _is_plain(address) and (reason := special(address)):
            return f"endpoints: {shown_address(address)} {reason}"
        if endpoint.node and not is_subdomain(endpoint.node):
            return f"endpoints: {shown_address(address)}: nodeName: {shown(endpoint.node)} is not a DNS-1123 subdomain"
        if not is_plain(endpoint.zone):
            return f"endpoints: {shown_address(address)}: zone: {shown(endpoint.zone)} is too long or not printable"
        if endpoint.zone_hints or endpoint.node_hints:
            wrong = hints_problem(endpoint.zone_hints, endpoint.node_hints)
            if wrong:
                return f"endpoints: {shown_address(address)}: hints: {wrong}"
    return ""


@lru_cache(maxsize=1 << 12)
def hints_problem(zones: tuple[str, ...], nodes: tuple[str, ...]) -> str:
    """What is wrong with the hints of an endpoint."""
    for zone in zones:
        if not is_plain(zone):
            return f"zone {shown(zone)} is too long or not printable"
    for node in nodes:
        if not is_plain(node):
            return f"node {shown(node)} is too long or not printable"
    return ""


def _node(node: Node) -> str:
    if not is_label_value(node.zone):
        return f"metadata.labels[topology.kubernetes.io/zone]: {shown(node.zone)} is not a label's value"
    return _addresses("status.addresses", node.addresses) or cidrs_problem("spec.podCIDRs", node.pod_cidrs)


def _service_cidr(cidr: ServiceCidr) -> str:
    return cidrs_problem("spec.cidrs", cidr.cidrs)


def cidrs_problem(field: str, texts: Iterable[str]) -> str:
    """The first text that is no CIDR."""
    for index, text in enumerate(texts):
        if not is_cidr(text):
            return f"{field}[{index}]: {shown(text)} is not a CIDR"
    return ""


@lru_cache(maxsize=1 << 12)
def is_cidr(text: str) -> bool:
    """Whether this is the text of a network; host bits may be set."""
    try:
        return len(text) < 64 and "%" not in text and ip_network(text, strict=False) is not None
    except ValueError:
        return False
