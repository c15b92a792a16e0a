"""What one Service means on one node. Names carry the behaviour rows they hold (docs/behaviour.md)."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import combinations
from typing import Any

import pytest

from deltaplane.forwarding import FrontendKind, Hairpin, HealthCheck, Masquerade, ServiceForwarding, Target, Verdict
from deltaplane.model import (
    Conditions,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IpMode,
    LoadBalancerIngress,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)
from deltaplane.resolve import NodeView, resolve

READY = Conditions.READY | Conditions.SERVING
NOT_READY = Conditions(0)
DYING = Conditions.SERVING | Conditions.TERMINATING
GONE = Conditions.TERMINATING

HERE = NodeView("here", "zone-a")
V4, V6 = "172.30.0.1", "fd00:10:96::1"


def packed(text: str) -> bytes:
    return ip_address(text).packed


def endpoint(address: str, conditions: int = READY, node: str = "", **hints: tuple[str, ...]) -> Endpoint:
    return Endpoint(packed(address), conditions, node, "", **hints)


def make_service(*ports: ServicePort, ips: tuple[str, ...] = (V4,), **fields: Any) -> Service:
    return Service(
        "ns", "svc", ServiceType.CLUSTER_IP, tuple(map(packed, ips)), ports or (ServicePort("", 6, 80),), **fields
    )


def make_slice(
    *endpoints: Endpoint, name: str = "a", port: int = 8080, port_name: str = "", protocol: int = 6
) -> EndpointSlice:
    family = 4 if not endpoints or len(endpoints[0].address) == 4 else 6
    return EndpointSlice("ns", f"svc-{name}", "svc", family, (EndpointPort(port_name, protocol, port),), endpoints)


def forwarding(service: Service | None, *slices: EndpointSlice, view: NodeView = HERE) -> ServiceForwarding:
    return resolve(make_service().key, service, slices, view)


def addresses(targets: tuple[Target, ...]) -> list[str]:
    return [str(ip_address(t.address)) for t in targets]


def cluster_ip_targets(service: Service, *slices: EndpointSlice, view: NodeView = HERE) -> list[str]:
    return addresses(forwarding(service, *slices, view=view).entries[0].targets)


def test_a_deleted_service_has_no_entries() -> None:
    assert forwarding(None, make_slice(endpoint("10.0.0.1"))) == ServiceForwarding(make_service().key)


def test_a1_a2_ready_endpoints_are_targets_at_the_target_port() -> None:
    [entry] = forwarding(make_service(), make_slice(endpoint("10.0.0.2"), endpoint("10.0.0.1"))).entries
    assert entry.frontend == (FrontendKind.CLUSTER_IP, 4, packed(V4), Protocol.TCP, 80)
    assert entry.targets == (Target(packed("10.0.0.1"), 8080), Target(packed("10.0.0.2"), 8080))
    assert (entry.verdict, entry.masquerade) == (Verdict.FORWARD, Masquerade.OFF_CLUSTER)


def test_a3_the_same_port_over_two_protocols_stays_separate() -> None:
    service = make_service(ServicePort("t", Protocol.TCP, 53), ServicePort("u", Protocol.UDP, 53))
    tcp = make_slice(endpoint("10.0.0.1"), name="t", port_name="t")
    udp = make_slice(endpoint("10.0.0.2"), name="u", port_name="u", protocol=Protocol.UDP)
    entries = forwarding(service, tcp, udp).entries
    assert [(e.frontend.protocol, addresses(e.targets)) for e in entries] == [(6, ["10.0.0.1"]), (17, ["10.0.0.2"])]


def test_a7_a_node_port_has_a_frontend_per_family_and_always_masquerades() -> None:
    service = make_service(ServicePort("", 6, 80, 32223), ips=(V4, V6))
    entries = forwarding(service, make_slice(endpoint("10.0.0.1")), make_slice(endpoint("fd01::1"), name="b")).entries
    node_ports = [e for e in entries if e.frontend.kind == FrontendKind.NODE_PORT]
    assert [(e.frontend.family, e.frontend.address, addresses(e.targets)) for e in node_ports] == [
        (4, b"", ["10.0.0.1"]),
        (6, b"", ["fd01::1"]),
    ]
    assert {e.masquerade for e in node_ports} == {Masquerade.ALWAYS}


def test_e3_only_slices_of_the_family_count() -> None:
    service = make_service(ips=(V6,))
    [entry] = forwarding(service, make_slice(endpoint("10.0.0.1"))).entries
    assert (entry.targets, entry.verdict) == ((), Verdict.REJECT)


def test_e7_a_named_port_may_differ_between_slices() -> None:
    one, two = make_slice(endpoint("10.0.0.1")), make_slice(endpoint("10.0.0.2"), name="b", port=9090)
    assert [t.port for t in forwarding(make_service(), one, two).entries[0].targets] == [8080, 9090]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_e8_a_terminating_copy_never_wins(order: tuple[int, int]) -> None:
    slices = make_slice(endpoint("10.0.0.1", DYING)), make_slice(endpoint("10.0.0.1"), name="b")
    assert cluster_ip_targets(make_service(), *(slices[i] for i in order)) == ["10.0.0.1"]


COPIES = (  # of one address, from the one that counts most
    endpoint("10.0.0.1", READY, "here"),
    endpoint("10.0.0.1", READY, "a-node"),
    endpoint("10.0.0.1", READY, "", zone_hints=("zone-a",)),
    endpoint("10.0.0.1", READY),
    endpoint("10.0.0.1", READY | Conditions.TERMINATING, "here"),
    endpoint("10.0.0.1", DYING, "here"),
    endpoint("10.0.0.1", Conditions.SERVING, "here"),
    endpoint("10.0.0.1", NOT_READY, "here"),
    endpoint("10.0.0.1", GONE, "here"),
)


@pytest.mark.parametrize("better, worse", [*combinations(range(len(COPIES)), 2)])
def test_e8_which_of_two_copies_counts_does_not_depend_on_the_order_of_slices(better: int, worse: int) -> None:
    service = make_service(internal_traffic_policy=TrafficPolicy.LOCAL, session_affinity_seconds=1)
    one, other = make_slice(COPIES[better]), make_slice(COPIES[worse], name="b")
    alone = forwarding(service, one)
    assert [forwarding(service, one, other), forwarding(service, other, one)] == [alone, alone]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_k1_a_health_check_counts_the_copies_that_forwarding_uses(order: tuple[int, int]) -> None:
    """A ready copy on this node and one on another: one endpoint, on one node."""
    service = load_balancer(
        external_traffic_policy=TrafficPolicy.LOCAL, health_check_node_port=32000
    )  # fmt: skip
    copies = make_slice(endpoint("10.0.0.1", node="here")), make_slice(endpoint("10.0.0.1", node="there"), name="b")
    made = forwarding(service, *(copies[i] for i in order))
    assert made.entries[-1].local_targets == ()
    assert made.health_check == HealthCheck(32000, ((4, 0),))


def test_an_unready_endpoint_gets_nothing_while_another_is_ready() -> None:
    assert cluster_ip_targets(
        make_service(), make_slice(endpoint("10.0.0.1", NOT_READY), endpoint("10.0.0.2"))
    ) == ["10.0.0.2"]  # fmt: skip


def test_e14_serving_terminating_endpoints_are_the_fallback() -> None:
    dying, gone = endpoint("10.0.0.1", DYING), endpoint("10.0.0.2", GONE)
    assert cluster_ip_targets(make_service(), make_slice(dying, gone)) == ["10.0.0.1"]
    assert cluster_ip_targets(make_service(), make_slice(dying, endpoint("10.0.0.3"))) == ["10.0.0.3"]


@pytest.mark.parametrize("conditions", [NOT_READY, GONE])
def test_e15_f1_unusable_endpoints_alone_are_refused(conditions: int) -> None:
    [entry] = forwarding(make_service(), make_slice(endpoint("10.0.0.1", conditions))).entries
    assert (entry.targets, entry.verdict) == ((), Verdict.REJECT)


def test_d1_zone_hints_keep_traffic_in_the_zone() -> None:
    near, far = endpoint("10.0.0.1", zone_hints=("zone-a",)), endpoint("10.0.0.2", zone_hints=("zone-b",))
    assert cluster_ip_targets(make_service(), make_slice(near, far)) == ["10.0.0.1"]


def test_d2_node_hints_come_before_zone_hints() -> None:
    near = endpoint("10.0.0.1", zone_hints=("zone-a",), node_hints=("other",))
    mine = endpoint("10.0.0.2", zone_hints=("zone-a",), node_hints=("here",))
    assert cluster_ip_targets(make_service(), make_slice(near, mine)) == ["10.0.0.2"]


@pytest.mark.parametrize(
    ("second", "view"),
    [
        (endpoint("10.0.0.2"), HERE),  # one ready endpoint without a hint
        (endpoint("10.0.0.2", zone_hints=("zone-b",)), NodeView("here")),  # node without a zone
        (endpoint("10.0.0.2", zone_hints=("zone-b",)), NodeView("here", "zone-c")),  # nothing hinted for the zone
    ],
)
def test_d3_hints_fall_back_to_all(second: Endpoint, view: NodeView) -> None:
    first = endpoint("10.0.0.1", zone_hints=("zone-a",))
    assert cluster_ip_targets(make_service(), make_slice(first, second), view=view) == ["10.0.0.1", "10.0.0.2"]


def test_d3_an_unready_endpoint_without_hints_does_not_disable_them() -> None:
    near, far = endpoint("10.0.0.1", zone_hints=("zone-a",)), endpoint("10.0.0.2", zone_hints=("zone-b",))
    assert cluster_ip_targets(make_service(), make_slice(near, far, endpoint("10.0.0.3", NOT_READY))) == ["10.0.0.1"]


def test_c2_internal_local_without_a_local_endpoint_is_dropped() -> None:
    service = make_service(internal_traffic_policy=TrafficPolicy.LOCAL)
    [entry] = forwarding(service, make_slice(endpoint("10.0.0.1", node="other"))).entries
    assert (entry.targets, entry.verdict) == ((), Verdict.DROP)
    assert cluster_ip_targets(service, make_slice(endpoint("10.0.0.1", node="here"))) == ["10.0.0.1"]


def test_c3_external_local_has_both_lists_and_keeps_the_short_circuit() -> None:
    service = make_service(ServicePort("", 6, 80, 30000), external_traffic_policy=TrafficPolicy.LOCAL)
    here, there = endpoint("10.0.0.1", node="here"), endpoint("10.0.0.2", node="there")
    _, entry = forwarding(service, make_slice(here, there)).entries
    assert addresses(entry.targets) == ["10.0.0.1", "10.0.0.2"]
    assert entry.local_targets == (Target(packed("10.0.0.1"), 8080),)
    assert entry.masquerade == Masquerade.NODE_ONLY
    _, remote = forwarding(service, make_slice(there)).entries
    assert (remote.local_targets, remote.verdict, remote.external_verdict) == ((), Verdict.FORWARD, Verdict.DROP)


def test_c5_external_policy_means_nothing_without_an_external_frontend() -> None:
    service = make_service(external_traffic_policy=TrafficPolicy.LOCAL)
    [entry] = forwarding(service, make_slice(endpoint("10.0.0.1", node="there"))).entries
    assert (addresses(entry.targets), entry.local_targets) == (["10.0.0.1"], None)


def test_i4_targets_on_other_nodes_do_not_hairpin() -> None:
    made = forwarding(make_service(), make_slice(endpoint("10.0.0.1", node="here"), endpoint("10.0.0.2", node="x")))
    assert made.hairpins == (Hairpin(packed("10.0.0.1"), Protocol.TCP, 8080),)


def test_e10_an_endpoint_without_a_node_is_never_local() -> None:
    service = make_service(internal_traffic_policy=TrafficPolicy.LOCAL)
    assert forwarding(service, make_slice(endpoint("10.0.0.1"))).entries[0].targets == ()


def test_i4_an_endpoint_without_a_node_may_be_here_and_reach_itself() -> None:
    made = forwarding(make_service(), make_slice(endpoint("10.0.0.1")))
    assert made.hairpins == (Hairpin(packed("10.0.0.1"), Protocol.TCP, 8080),)


LB = LoadBalancerIngress(packed("203.0.113.9"))


def load_balancer(*ingress: LoadBalancerIngress, **fields: Any) -> Service:
    ports = (ServicePort("", 6, 80, 30000),)
    return Service(
        "ns", "svc", ServiceType.LOAD_BALANCER, (packed(V4),), ports, (), ingress or (LB,), **fields
    )  # fmt: skip


def test_a8_a10_vips_and_external_ips_are_frontends_at_the_service_port() -> None:
    service = make_service(external_ips=(packed("192.0.2.1"), packed("2001:db8::9")), load_balancer_ingress=(LB,))
    entries = forwarding(service, make_slice(endpoint("10.0.0.1"))).entries[1:]
    assert [(e.frontend.kind, str(ip_address(e.frontend.address)), e.frontend.port) for e in entries] == [
        (FrontendKind.EXTERNAL_IP, "192.0.2.1", 80),
        (FrontendKind.LOAD_BALANCER, "203.0.113.9", 80),
    ]


def test_a9_ip_mode_proxy_has_no_rules_for_its_address() -> None:
    service = load_balancer(LoadBalancerIngress(packed("203.0.113.9"), IpMode.PROXY))
    kinds = [e.frontend.kind for e in forwarding(service, make_slice(endpoint("10.0.0.1"))).entries]
    assert kinds == [FrontendKind.CLUSTER_IP, FrontendKind.NODE_PORT]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        (("10.0.0.0/8", "fd00::/8"), ("10.0.0.0/8",)),
        (("10.0.0.0/8", "0.0.0.0/0"), ()),  # G3
        (("10.0.0.0/8", "192.168.0.0/16"), ("10.0.0.0/8", "192.168.0.0/16", "203.0.113.9/32")),  # G2
    ],
)
def test_g1_g2_g3_source_ranges_stand_on_the_vip_only(ranges: tuple[str, ...], expected: tuple[str, ...]) -> None:
    view = NodeView("here", "", (packed("192.168.0.2"),))
    service = load_balancer(load_balancer_source_ranges=ranges)
    entries = forwarding(service, make_slice(endpoint("10.0.0.1")), view=view).entries
    assert [e.source_ranges for e in entries] == [(), (), expected]


RANGES = ("10.0.0.0/8",)


def closed(own: str, external: tuple[str, ...], vips: tuple[str, ...], **fields: Any) -> list[tuple[Any, ...]]:
    """Kind, address and ranges of the frontends of a Service with source ranges."""
    service = make_service(
        ips=(own,),
        external_ips=tuple(map(packed, external)),
        load_balancer_ingress=tuple(LoadBalancerIngress(packed(vip)) for vip in vips),
        load_balancer_source_ranges=RANGES,
        **fields,
    )
    entries = forwarding(service, make_slice(endpoint("10.0.0.1"))).entries
    return [(e.frontend.kind, str(ip_address(e.frontend.address)), e.source_ranges) for e in entries]


def test_an_address_given_twice_is_the_first_ones_but_closed_to_whom_either_closes_it() -> None:
    outside = "198.51.100.7"
    cluster_ip, external = (FrontendKind.CLUSTER_IP, V4), (FrontendKind.EXTERNAL_IP, outside)
    assert closed(V4, (outside,), (outside,)) == [(*cluster_ip, ()), (*external, RANGES)]
    assert closed(V4, (), (V4,)) == [(*cluster_ip, RANGES)]
    assert closed(V4, (V4,), ()) == [(*cluster_ip, ())]
    assert closed(V4, (outside, outside), ()) == [(*cluster_ip, ()), (*external, ())]
    assert closed(V4, (V4,), (V4,)) == [(*cluster_ip, RANGES)]


def test_the_same_address_over_two_protocols_or_ports_is_not_given_twice() -> None:
    ports = (ServicePort("t", 6, 53), ServicePort("u", 17, 53), ServicePort("v", 6, 54))
    service = make_service(*ports, external_ips=(packed("198.51.100.7"),))
    assert len(forwarding(service).entries) == 6


def test_a_node_port_given_to_two_ports_is_the_first_ones() -> None:
    service = make_service(ServicePort("a", 6, 80, 30080), ServicePort("b", 6, 81, 30080))
    entries = forwarding(service).entries
    assert [(e.frontend.kind, e.port_name) for e in entries] == [(1, "a"), (2, "a"), (1, "b")]


def test_k1_e14_the_health_check_counts_local_ready_addresses() -> None:
    service = load_balancer(external_traffic_policy=TrafficPolicy.LOCAL, health_check_node_port=31000)
    here, dying, there = endpoint("10.0.0.1", node="here"), endpoint("10.0.0.2", DYING, "here"), endpoint("10.0.0.3")
    assert forwarding(service, make_slice(here, dying, there)).health_check == HealthCheck(31000, ((4, 1),))
    cluster = load_balancer(health_check_node_port=31000)
    assert forwarding(cluster, make_slice(here)).health_check is None


def test_j2_udp_entries_know_every_serving_endpoint() -> None:
    service = make_service(ServicePort("", Protocol.UDP, 53), internal_traffic_policy=TrafficPolicy.LOCAL)
    piece = make_slice(endpoint("10.0.0.1", DYING), endpoint("10.0.0.2", GONE), endpoint("10.0.0.3"), protocol=17)
    [entry] = forwarding(service, piece).entries
    assert (entry.verdict, addresses(entry.serving)) == (Verdict.DROP, ["10.0.0.1", "10.0.0.3"])
