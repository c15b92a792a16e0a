"""A v1 Service to its model value. Pure; called by `translate`. Row ids are those of docs/behaviour.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from controlplane.source import objects
from controlplane.source.usable import Invalid, Problems, choose
from deltaplane import model
from deltaplane.addresses import parse_address, parse_cidr
from deltaplane.model import IpMode, Protocol, ServiceType, TrafficPolicy, family_of
from deltaplane.names import is_label, shown
from deltaplane.validation import MAX_AFFINITY_SECONDS, NODES_OWN_PORTS, special

PROXY_NAME = "service.kubernetes.io/service-proxy-name"
DEFAULT_AFFINITY_SECONDS = 10800  # core/v1 DefaultClientIPServiceAffinitySeconds

_TYPES = {
    "ClusterIP": ServiceType.CLUSTER_IP,
    "NodePort": ServiceType.NODE_PORT,
    "LoadBalancer": ServiceType.LOAD_BALANCER,
}
_POLICIES = {"Cluster": TrafficPolicy.CLUSTER, "Local": TrafficPolicy.LOCAL}
_AFFINITIES = {"None": False, "ClientIP": True}
_IP_MODES = {"VIP": IpMode.VIP, "Proxy": IpMode.PROXY}
T = TypeVar("T")


def translate_service(thing: objects.Service, problems: Problems) -> model.Service | None:
    """The Service; None if it is irrelevant for this proxy. Raises `Invalid`."""
    spec = thing.spec or objects.ServiceSpec()
    if spec.type == "ExternalName" or PROXY_NAME in (thing.metadata.labels or {}):  # A5, A12
        return None
    texts = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if not texts or texts[0] in {"", "None"}:  # A4, and Services whose address is not allocated yet
        return None
    kind = _word("spec.type", spec.type, "ClusterIP", _TYPES)
    return model.Service(
        namespace=thing.metadata.namespace,
        name=thing.metadata.name,
        type=kind,
        cluster_ips=_cluster_ips(texts, problems),
        ports=tuple(_ports(spec.ports or (), kind, problems)),
        external_ips=tuple(sorted(choose("spec.externalIPs", spec.external_ips or (), _usable_address, problems))),
        load_balancer_ingress=_ingress(thing.status, problems),
        load_balancer_source_ranges=_source_ranges(spec.load_balancer_source_ranges or [], problems),
        internal_traffic_policy=_word("spec.internalTrafficPolicy", spec.internal_traffic_policy, "Cluster", _POLICIES),
        external_traffic_policy=_word("spec.externalTrafficPolicy", spec.external_traffic_policy, "Cluster", _POLICIES),
        session_affinity_seconds=_affinity(spec, problems),
        health_check_node_port=_health_check_port(spec.health_check_node_port, problems),
        created=_seconds(thing.metadata.creation_timestamp),
    )


def _seconds(text: str | None) -> int:
    """Unix seconds of an RFC 3339 time; 0 if it is unreadable, or before 1970, as Go's zero time."""
    try:
        found = datetime.fromisoformat(text or "")
        return max(0, int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, OverflowError):
        return 0


def _usable_address(text: str) -> bytes:
    """Parses an address that can be a target of traffic. Raises ValueError."""
    address = parse_address(text)
    reason = special(address)
    if reason:
        raise ValueError(f"{text} {reason}")
    return address


def _word(field: str, text: str | None, default: str, words: Mapping[str, T]) -> T:
    """The meaning of an enumerated field. Raises `Invalid` for an unknown value, so the Service stays as it was."""
    try:
        return words[text or default]
    except KeyError as error:
        raise Invalid(f"{field}: {text!r} is not one of {', '.join(words)}") from error


def _cluster_ips(texts: list[str], problems: Problems) -> tuple[bytes, ...]:
    """The cluster IPs in API order, one per family."""
    found: dict[int, bytes] = {}
    before = len(problems)
    for address in choose("spec.clusterIPs", texts, parse_address, problems):
        if family_of(address) in found:
            problems.append("spec.clusterIPs: a second address of one family; the first is used")
        else:
            found[family_of(address)] = address
    if not found:
        raise Invalid(problems[before].removesuffix("; skipped"))
    return tuple(found.values())


def _ports(ports: Iterable[objects.ServicePort], kind: int, problems: Problems) -> Iterator[model.ServicePort]:
    names: set[str] = set()
    numbers: set[tuple[int, int]] = set()
    for index, thing in enumerate(ports):
        try:
            port = _port(thing, kind, index, problems)
        except Invalid as error:
            problems.append(f"spec.ports{error}; port skipped")
            continue
        if port.name in names or (port.protocol, port.port) in numbers:
            problems.append(f"spec.ports[{index}]: has the name, or protocol and port, of an earlier one; skipped")
            continue
        names.add(port.name)
        numbers.add((port.protocol, port.port))
        yield port


def _port(thing: objects.ServicePort, kind: int, index: int, problems: Problems) -> model.ServicePort:
    protocol = thing.protocol or "TCP"
    node_port = thing.node_port or 0
    if not thing.port or not 0 < thing.port < 65536:
        raise Invalid(f"[{index}].port: {thing.port} is not 1..65535")
    if protocol not in Protocol.__members__:
        raise Invalid(f"[{index}].protocol: {protocol!r} is not TCP, UDP or SCTP")
    if thing.name and not is_label(thing.name):
        raise Invalid(f"[{index}].name: {shown(thing.name)} is not a DNS-1123 label")
    if node_port and (kind == ServiceType.CLUSTER_IP or not 0 < node_port < 65536):
        reason = "belongs to type NodePort or LoadBalancer" if 0 < node_port < 65536 else "is not 1..65535"
        problems.append(f"spec.ports[{index}].nodePort: {node_port} {reason}; not opened")
        node_port = 0
    if node_port in NODES_OWN_PORTS:
        problems.append(f"spec.ports[{index}].nodePort: {node_port} is how the node itself is reached; not opened")
        node_port = 0
    return model.ServicePort(thing.name or "", Protocol[protocol], thing.port, node_port)


def _ingress(status: objects.ServiceStatus | None, problems: Problems) -> tuple[model.LoadBalancerIngress, ...]:
    """The ingress addresses sorted by address and mode (A9). An ingress with only a host name has none."""
    balancer = status and status.load_balancer
    found = set()
    for index, thing in enumerate((balancer and balancer.ingress) or ()):
        if not thing.ip:
            continue
        at = f"status.loadBalancer.ingress[{index}]"
        try:
            mode = _word(f"{at}.ipMode", thing.ip_mode, "VIP", _IP_MODES)
            found.add((_usable_address(thing.ip), int(mode)))
        except Invalid as error:
            problems.append(f"{error}; skipped")
        except ValueError as error:
            problems.append(f"{at}.ip: {error}; skipped")
    return tuple(model.LoadBalancerIngress(ip, mode) for ip, mode in sorted(found))


def _source_ranges(texts: list[str], problems: Problems) -> tuple[str, ...]:
    """The ranges as sorted canonical text. Raises `Invalid` if all are unreadable: none would mean open to all."""
    before = len(problems)
    ranges = tuple(sorted(choose("spec.loadBalancerSourceRanges", texts, parse_cidr, problems)))
    if texts and not ranges:
        raise Invalid(problems[before].removesuffix("; skipped"))
    return ranges


def _affinity(spec: objects.ServiceSpec, problems: Problems) -> int:
    if not _word("spec.sessionAffinity", spec.session_affinity, "None", _AFFINITIES):
        return 0
    config = spec.session_affinity_config
    seconds = config.client_ip.timeout_seconds if config and config.client_ip else None
    if seconds is None:
        return DEFAULT_AFFINITY_SECONDS
    if not 0 < seconds <= MAX_AFFINITY_SECONDS:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        problems.append(f"{field}: {seconds} is not 1..{MAX_AFFINITY_SECONDS}; {DEFAULT_AFFINITY_SECONDS} is used")
        return DEFAULT_AFFINITY_SECONDS
    return seconds


def _health_check_port(port: int | None, problems: Problems) -> int:
    if port in NODES_OWN_PORTS:
        problems.append(f"spec.healthCheckNodePort: {port} is how the node itself is reached; not opened")
        return 0
    if port and not 0 < port < 65536:
        problems.append(f"spec.healthCheckNodePort: {port} is not 1..65535; not opened")
        return 0
    return port or 0
