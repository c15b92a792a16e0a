"""Packet traces: what becomes of new connections, evaluated from the bytes that were sent."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import Hairpin, NodeForwarding, Verdict
from nodeagent.dataplane.nftables.settings import Settings
from tests.unit.nodeagent.dataplane.nftables.tracing import HOST, OUTSIDE, POD, follow, reaches, stopped, untouched
from tests.unit.nodeagent.dataplane.nftables.walks import (
    EXTERNAL,
    NODE,
    cluster_ip,
    local_policy,
    node_port,
    packed,
    service,
    targets,
)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize(("source", "masqueraded"), [(POD, False), (HOST, True), (OUTSIDE, True)])
def test_a_cluster_ip_reaches_every_endpoint(count: int, source: str, masqueraded: bool) -> None:
    web = service("web", cluster_ip("172.30.0.1", targets(*range(1, count + 1))))
    found = follow(web, source=source, to="172.30.0.1", port=80)
    assert found == reaches(*range(1, count + 1), masqueraded=masqueraded)


@pytest.mark.parametrize("source", [POD, HOST, OUTSIDE])
def test_without_a_local_detector_nothing_is_masqueraded_to_a_cluster_ip(source: str) -> None:
    web = service("web", cluster_ip("172.30.0.1", targets(1, 2)))
    found = follow(web, source=source, to="172.30.0.1", port=80, settings=Settings())
    assert found == reaches(1, 2, masqueraded=False)


@pytest.mark.parametrize("source", [POD, OUTSIDE])
def test_a_node_port_reaches_every_endpoint_as_the_node(source: str) -> None:
    web = service("web", node_port(30080, targets(1, 2, 3)))
    assert follow(web, source=source, to=HOST, port=30080) == reaches(1, 2, 3, masqueraded=True)


def test_a_node_port_answers_on_the_given_addresses_only() -> None:
    web = service("web", node_port(30080, targets(1)))
    assert follow(web, source=POD, to="192.168.9.9", port=30080) == untouched("192.168.9.9", 30080)


def test_ipv6_is_its_own_program() -> None:
    web = service("web", cluster_ip("fd00:10:96::1", targets(1, 2, 3, family=6)))
    found = follow(web, source="fd00:10:180:1::77", to="fd00:10:96::1", port=80)
    assert found == reaches(1, 2, 3, masqueraded=False, family=6)
    found = follow(web, source="2001:db8:f::2", to="fd00:10:96::1", port=80)
    assert found == reaches(1, 2, 3, masqueraded=True, family=6)


@pytest.mark.parametrize("source", [POD, HOST, OUTSIDE])
def test_no_endpoints_refuses_everybody(source: str) -> None:
    web = service("web", cluster_ip("172.30.0.1", ()))
    assert follow(web, source=source, to="172.30.0.1", port=80) == stopped("reject")


def test_no_endpoints_refuses_at_the_node_port_too() -> None:
    assert follow(service("web", node_port(30080, ())), source=OUTSIDE, to=HOST, port=30080) == stopped("reject")


def test_a_drop_verdict_drops() -> None:
    web = service("web", cluster_ip("172.30.0.1", (), empty=Verdict.DROP))
    assert follow(web, source=POD, to="172.30.0.1", port=80) == stopped("drop")


@pytest.mark.parametrize("source", [POD, HOST])
def test_an_undefined_port_of_a_cluster_ip_is_refused(source: str) -> None:
    web = service("web", cluster_ip("172.30.0.1", targets(1)))
    assert follow(web, source=source, to="172.30.0.1", port=81) == stopped("reject")


def test_protocols_stay_separate() -> None:
    dns = service("dns", cluster_ip("172.30.0.1", targets(1), 53, 17), cluster_ip("172.30.0.1", targets(2), 53, 6))
    assert follow(dns, source=POD, to="172.30.0.1", port=53, protocol=17) == reaches(1, masqueraded=False)
    assert follow(dns, source=POD, to="172.30.0.1", port=53, protocol=6) == reaches(2, masqueraded=False)


def test_a_pod_that_reaches_itself_is_masqueraded_and_only_then() -> None:
    pod = targets(1)[0]
    web = service("web", cluster_ip("172.30.0.1", targets(1, 2)), hairpins=[Hairpin(pod.address, 6, pod.port)])
    found = follow(web, source="10.180.1.1", to="172.30.0.1", port=80)
    first, second = targets(1, 2)
    assert found.ends == {(first.address, 8080, True), (second.address, 8080, False)}


@pytest.mark.parametrize(
    ("source", "numbers", "masqueraded"),
    [(POD, (1, 2, 3), False), (HOST, (1, 2, 3), True), (OUTSIDE, (1, 2), False)],
)
def test_local_policy_keeps_the_outside_on_this_node_and_its_address(
    source: str, numbers: tuple[int, ...], masqueraded: bool
) -> None:
    web = service("web", local_policy(EXTERNAL, targets(1, 2, 3), targets(1, 2)))
    found = follow(web, source=source, to="203.0.113.9", port=80)
    assert found == reaches(*numbers, masqueraded=masqueraded)


def test_local_policy_without_local_endpoints_drops_the_outside_only() -> None:
    web = service("web", local_policy(EXTERNAL, targets(1, 2, 3), ()))
    assert follow(web, source=OUTSIDE, to="203.0.113.9", port=80) == stopped("drop")
    assert follow(web, source=POD, to="203.0.113.9", port=80) == reaches(1, 2, 3, masqueraded=False)


def test_traffic_that_is_no_services_is_left_alone() -> None:
    web = service("web", cluster_ip("172.30.0.1", targets(1)), node_port(30080, targets(1)))
    assert follow(web, source=POD, to="198.51.100.1", port=80) == untouched("198.51.100.1", 80)
    assert follow(web, source=OUTSIDE, to=HOST, port=22) == untouched(HOST, 22)


@pytest.mark.parametrize("protocol", [6, 17, 132])
@pytest.mark.parametrize(("address", "source"), [("172.30.0.1", POD), ("fd00:10:96::1", "fd00:10:180:1::77")])
def test_refusal_of_every_protocol_in_both_families(protocol: int, address: str, source: str) -> None:
    web = service("web", cluster_ip(address, (), protocol=protocol))
    assert follow(web, source=source, to=address, port=80, protocol=protocol) == stopped("reject")


def test_unallocated_addresses_of_a_service_cidr_are_dropped_and_nothing_else() -> None:
    node = NodeForwarding((packed(HOST),), (), ("172.30.0.0/16", "172.31.0.0/24"))
    web = service("web", cluster_ip("172.30.0.1", targets(1)))
    for source in (POD, HOST, OUTSIDE):
        for address in ("172.30.0.2", "172.30.255.255", "172.31.0.255"):
            assert follow(web, source=source, to=address, port=80, node=node) == stopped("drop")
        assert follow(web, source=source, to="172.30.0.1", port=81, node=node) == stopped("reject")
        assert follow(web, source=source, to="172.31.1.0", port=80, node=node) == untouched("172.31.1.0", 80)
    assert follow(web, source=POD, to="172.30.0.1", port=80, node=node) == reaches(1, masqueraded=False)


@pytest.mark.parametrize(("address", "everywhere"), [("192.168.1.2", True), (HOST, False), (HOST, True)])
def test_node_ports_on_every_address_of_the_node(address: str, everywhere: bool) -> None:
    node = NodeForwarding((), (4,)) if everywhere else NODE
    for web, expected in (
        (service("web", node_port(30080, targets(1))), reaches(1, masqueraded=True)),
        (service("web", node_port(30080, ())), stopped("reject")),
    ):
        assert follow(web, source=OUTSIDE, to=address, port=30080, node=node) == expected


@pytest.mark.parametrize("anywhere", [(), (4, 6)])
def test_node_ports_never_answer_on_loopback_addresses(anywhere: tuple[int, ...]) -> None:
    node = NodeForwarding((packed("127.0.0.1"), packed("::1")), anywhere)
    web = service("web", node_port(30080, targets(1)), node_port(30080, targets(1, family=6), family=6))
    assert follow(web, source=HOST, to="127.0.0.1", port=30080, node=node) == untouched("127.0.0.1", 30080)
    assert follow(web, source="2001:db8::2", to="::1", port=30080, node=node) == untouched("::1", 30080)
