"""Endpoints (v1): how addresses are grouped, what is cut off, and when nothing is to be written."""

from __future__ import annotations

from msgspec.structs import replace

from controlplane.endpoints.core_endpoints import MANAGED_BY, MANAGER, MOST, OVER_CAPACITY, desired
from controlplane.endpoints.objects import Endpoints, ObjectMeta
from controlplane.endpoints.values import NamedPort, ServicePort
from tests.unit.controlplane.endpoints.things import pod, pods, service

TWO = (ServicePort("http", "TCP", 8080), ServicePort("dns", "UDP", 53))


def shown(endpoints: Endpoints | None) -> list[tuple[list[str], list[str], list[int]]]:
    assert endpoints is not None
    return [
        (
            [one.ip for one in part.addresses or ()],
            [one.ip for one in part.not_ready_addresses or ()],
            [port.port or 0 for port in part.ports or ()],
        )
        for part in endpoints.subsets or ()
    ]


def test_ready_and_unready_addresses_with_the_same_ports_are_one_subset() -> None:
    found = desired(service(ports=TWO), [pod(1), pod(0, ready=False), pod(2)], None)
    assert shown(found) == [(["10.1.0.2", "10.1.0.3"], ["10.1.0.1"], [53, 8080])]


def test_pods_with_other_ports_are_another_subset() -> None:
    named = (ServicePort("http", "TCP", "http"),)
    found = desired(service(ports=named), [pod(0), pod(1, ports=(NamedPort("http", "TCP", 9090),))], None)
    assert shown(found) == [(["10.1.0.1"], [], [8080]), (["10.1.0.2"], [], [9090])]


def test_terminating_pods_are_out_unless_the_service_publishes_what_is_not_ready() -> None:
    members = [pod(0, terminating=True), pod(1, ready=False)]
    assert shown(desired(service(), members, None)) == [([], ["10.1.0.2"], [8080])]
    assert shown(desired(service(publish_not_ready=True), members, None)) == [(["10.1.0.1", "10.1.0.2"], [], [8080])]


def test_they_are_of_the_services_first_family() -> None:
    assert shown(desired(service(families=("IPv6", "IPv4")), pods(1), None)) == [(["fd00::1"], [], [8080])]


def test_a_headless_service_without_ports_has_addresses_alone() -> None:
    assert shown(desired(service(headless=True, ports=()), pods(1), None)) == [(["10.1.0.1"], [], [])]
    assert shown(desired(service(ports=()), pods(1), None)) == []


def test_what_is_said_already_is_not_written_again_whatever_its_order() -> None:
    found = desired(service(ports=TWO), pods(3), None)
    assert found is not None
    (part,) = found.subsets or ()
    turned = replace(part, addresses=tuple(reversed(part.addresses or ())), ports=tuple(reversed(part.ports or ())))
    assert desired(service(ports=TWO), pods(3), replace(found, subsets=(turned,))) is None


def test_those_of_others_are_taken_over_with_their_annotations() -> None:
    meta = ObjectMeta(name="web", namespace="shop", resource_version="5", annotations={"a": "b"}, labels={"x": "y"})
    found = desired(service(headless=True), pods(1), Endpoints(meta, ()))
    assert found is not None
    assert found.metadata.resource_version == "5"
    assert found.metadata.annotations == {"a": "b"}
    assert found.metadata.labels == {"team": "red", MANAGED_BY: MANAGER, "service.kubernetes.io/headless": ""}


def test_beyond_a_thousand_addresses_ready_ones_come_first_and_the_annotation_says_it() -> None:
    members = [*pods(900), *[pod(number, ready=False) for number in range(900, 1200)]]
    found = desired(service(), members, None)
    ((ready, others, _),) = shown(found)
    assert (len(ready), len(others)) == (900, MOST - 900)
    assert found is not None
    assert (found.metadata.annotations or {})[OVER_CAPACITY] == "truncated"
    assert desired(service(), members, found) is None

    ((ready, others, _),) = shown(desired(service(), pods(1200), found))
    assert (len(ready), len(others)) == (MOST, 0)
    fewer = desired(service(), pods(10), found)
    assert fewer is not None
    assert fewer.metadata.annotations == {}


def test_each_subset_keeps_its_part_of_a_thousand() -> None:
    members = [*pods(900), *[pod(n, ports=(NamedPort("http", "TCP", 9090),)) for n in range(900, 1500)]]
    found = shown(desired(service(ports=(ServicePort("http", "TCP", "http"),)), members, None))
    assert [len(ready) for ready, _, _ in found] == [600, 400]


def test_a_pod_on_no_node_has_no_node_name_which_the_server_would_refuse_empty() -> None:
    found = desired(service(), [pod(0, node="")], None)
    assert found is not None
    ((address,),) = [part.addresses or () for part in found.subsets or ()]
    assert address.node_name is None
