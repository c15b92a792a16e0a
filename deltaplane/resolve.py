"""What one Service means on one node: the only place Service semantics are decided, shared by agents and control plane.

Pure: a function of the Service, its EndpointSlices and the node's facts. Follows kube-proxy 1.36 (serviceport.go,
KEP-2086 internalTrafficPolicy, KEP-1860 ipMode); row ids in comments are those of docs/behaviour.md. Which endpoints a
port has is decided in `categorise`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from msgspec import Struct
from msgspec.structs import replace

from deltaplane.categorise import EndpointLists, candidates, categorise
from deltaplane.copies import preferred
from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Hairpin,
    HealthCheck,
    Masquerade,
    ServiceForwarding,
    Target,
    Verdict,
)
from deltaplane.model import (
    Conditions,
    Endpoint,
    EndpointSlice,
    IpMode,
    ObjectKey,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
    family_of,
)

_LOCAL = TrafficPolicy.LOCAL


class NodeView(Struct, frozen=True):
    """The node a Service is resolved for; `zone` is empty when the Node has no zone label."""

    name: str
    zone: str = ""
    addresses: tuple[bytes, ...] = ()  # the node's own; only source ranges ask for them (G2)


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
            found = candidates(port, family, slices)
            lists = categorise(found, service, port, view.name, view.zone)
            entries.extend(_entries(service, port, cluster_ip, lists, view))
            hairpins.update(Hairpin(t.address, port.protocol, t.port) for t in lists.hairpins)
    if len(entries) > len(service.cluster_ips) * len(service.ports):  # something besides ClusterIPs
        entries = _each_once(entries)
    return ServiceForwarding(key, tuple(entries), tuple(sorted(hairpins)), _health_check(service, slices, view))


def frontends(service: Service) -> Iterator[Frontend]:
    """What clients connect to, in the order of `resolve`'s entries: this depends on the Service alone.

    What is given twice comes twice.
    """
    for cluster_ip in service.cluster_ips:
        family = family_of(cluster_ip)
        vips = _vips(service, family)
        for port in service.ports:
            yield _internal_frontend(cluster_ip, port)
            yield from _external_frontends(service, port, family, vips)


def _each_once(entries: list[Entry]) -> list[Entry]:
    """An address and port, or node port, given twice is the first one's, but closed to whom either closes it to."""
    found: dict[tuple[int, bytes, int, int], Entry] = {}
    for entry in entries:
        identity = entry.frontend[1:]  # all but the kind
        first = found.setdefault(identity, entry)
        if entry.source_ranges and not first.source_ranges:
            found[identity] = replace(first, source_ranges=entry.source_ranges, is_vip=True)
    return list(found.values())


def _internal_frontend(cluster_ip: bytes, port: ServicePort) -> Frontend:
    return Frontend(FrontendKind.CLUSTER_IP, family_of(cluster_ip), cluster_ip, port.protocol, port.port)


def _external_frontends(
    service: Service, port: ServicePort, family: int, vips: tuple[bytes, ...]
) -> Iterator[Frontend]:
    if port.node_port:
        yield Frontend(FrontendKind.NODE_PORT, family, b"", port.protocol, port.node_port)
    for address in service.external_ips:
        if family_of(address) == family:
            yield Frontend(FrontendKind.EXTERNAL_IP, family, address, port.protocol, port.port)
    for address in vips:
        yield Frontend(FrontendKind.LOAD_BALANCER, family, address, port.protocol, port.port)


def _entries(
    service: Service, port: ServicePort, cluster_ip: bytes, lists: EndpointLists, view: NodeView
) -> Iterator[Entry]:
    family = family_of(cluster_ip)
    internal = lists.local if service.internal_traffic_policy == _LOCAL else lists.cluster
    yield Entry(
        frontend=_internal_frontend(cluster_ip, port),
        port_name=port.name,
        targets=internal,
        verdict=_verdict(internal, lists),
        masquerade=Masquerade.OFF_CLUSTER,
        affinity_seconds=service.session_affinity_seconds,
        serving=lists.serving,
        local_policy=service.internal_traffic_policy == _LOCAL,
    )
    if port.node_port or service.external_ips or service.load_balancer_ingress:
        yield from _external_entries(service, port, family, lists, view)


def _external_entries(
    service: Service, port: ServicePort, family: int, lists: EndpointLists, view: NodeView
) -> Iterator[Entry]:
    vips = _vips(service, family)
    ranges = _source_ranges(service, family, vips, view) if vips else ()
    for frontend in _external_frontends(service, port, family, vips):
        guarded = frontend.kind is FrontendKind.LOAD_BALANCER
        yield _external_entry(service, port, frontend, lists, ranges if guarded else ())


def _external_entry(
    service: Service, port: ServicePort, frontend: Frontend, lists: EndpointLists, ranges: tuple[str, ...] = ()
) -> Entry:
    local = service.external_traffic_policy == _LOCAL
    return Entry(
        frontend=frontend,
        port_name=port.name,
        targets=lists.cluster,
        verdict=_verdict(lists.cluster, lists),
        masquerade=Masquerade.NODE_ONLY if local else Masquerade.ALWAYS,
        local_targets=lists.local if local else None,
        external_verdict=_verdict(lists.local, lists) if local else Verdict.FORWARD,
        affinity_seconds=service.session_affinity_seconds,
        source_ranges=ranges,
        serving=lists.serving,
    )


def _verdict(targets: tuple[Target, ...], lists: EndpointLists) -> Verdict:
    """Nowhere at all: refused; somewhere, but not for this node under its policy: dropped (2.0, F1-F3, C2, C3)."""
    if targets:
        return Verdict.FORWARD
    return Verdict.DROP if lists.usable_anywhere else Verdict.REJECT


# ---------------------------------------------------------------- load balancers


def _vips(service: Service, family: int) -> tuple[bytes, ...]:
    """Addresses handled here instead of by the load balancer: not those whose ipMode is Proxy (A8, A9)."""
    ingress = service.load_balancer_ingress
    return tuple(i.ip for i in ingress if i.ip_mode != IpMode.PROXY and family_of(i.ip) == family)


def _source_ranges(service: Service, family: int, vips: tuple[bytes, ...], view: NodeView) -> tuple[str, ...]:
    """Who may use the VIPs; empty: everybody, also where a range of this family is a /0 (G3).

    Where a range has an address of this node, its own packets must pass: they may loop back from the VIP (G2).
    """
    networks = [n for n in map(_network, service.load_balancer_source_ranges) if n.version == family]
    if any(network.prefixlen == 0 for network in networks):
        return ()
    own = [ip_address(address) for address in view.addresses if family_of(address) == family]
    ranges = [str(network) for network in networks]
    if any(address in network for address in own for network in networks):
        ranges += [str(ip_network(vip)) for vip in vips]
    return tuple(sorted(set(ranges)))


@lru_cache(maxsize=1024)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)


def _health_check(service: Service, slices: Sequence[EndpointSlice], view: NodeView) -> HealthCheck | None:
    """Only for load balancers under Local policy; terminating endpoints do not count, so it fails first (K1, E14)."""
    wanted = service.type == ServiceType.LOAD_BALANCER and service.external_traffic_policy == _LOCAL
    if not wanted or not service.health_check_node_port:
        return None
    found: dict[bytes, Endpoint] = {}
    for piece in slices:
        for endpoint in piece.endpoints:
            found[endpoint.address] = preferred(found.get(endpoint.address, endpoint), endpoint)
    local = (a for a, e in found.items() if e.node == view.name and e.conditions & Conditions.READY)
    ready = Counter(map(family_of, local))
    counts = tuple((int(family), ready[family]) for family in sorted(map(family_of, service.cluster_ips)))
    return HealthCheck(service.health_check_node_port, counts)
