"""The slices of a Service: what they say, and how few are written when something changes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from controlplane.endpoints.desired import id_of, wanted
from controlplane.endpoints.names import SLICE_MANAGER
from controlplane.endpoints.objects import EndpointSlice, ObjectMeta, OwnerReference
from controlplane.endpoints.slicing import HEADLESS, MANAGED_BY, MOST, SERVICE_NAME, Write, plan
from controlplane.endpoints.values import NamedPort, Pod, Service, ServicePort
from tests.unit.controlplane.endpoints.things import HTTP, NODES, applied, pod, pods, service, shape


def writes(thing: Service, members: list[Pod], existing: list[EndpointSlice] | None = None) -> list[Write]:
    return plan(thing, members, NODES.get, existing or [], list(NODES.values()))


def made(thing: Service, members: list[Pod], existing: list[EndpointSlice] | None = None) -> list[EndpointSlice]:
    return applied(existing or [], writes(thing, members, existing))


def test_a_slice_says_whose_it_is_and_carries_the_services_labels() -> None:
    thing = service(labels={"team": "red", MANAGED_BY: "somebody", HEADLESS: "", SERVICE_NAME: "other"})
    (one,) = made(thing, pods(1))

    assert one.metadata.labels == {"team": "red", SERVICE_NAME: "web", MANAGED_BY: SLICE_MANAGER}
    assert one.metadata.generate_name == "web-"
    assert one.metadata.owner_references == (
        OwnerReference("v1", "Service", "web", "web-1", controller=True, block_owner_deletion=True),
    )


def test_slices_are_made_in_the_name_of_another_manager_and_those_of_it_are_kept() -> None:
    (write,) = plan(service(), pods(1), NODES.get, [], manager="somebody")
    assert write.after is not None
    kept = applied([], [write])

    assert (kept[0].metadata.labels or {})[MANAGED_BY] == "somebody"
    assert plan(service(), pods(1), NODES.get, kept, manager="somebody") == []


def test_the_slices_of_a_headless_service_say_so() -> None:
    (one,) = made(service(headless=True), pods(1))
    assert (one.metadata.labels or {})[HEADLESS] == ""


def test_an_endpoint_says_all_that_is_known_of_its_pod() -> None:
    (one,) = made(service("db", selector={"app": "web"}), [pod(0, hostname="first", subdomain="db")])
    (endpoint,) = one.endpoints or ()

    assert endpoint.addresses == ("10.1.0.1",)
    assert (endpoint.hostname, endpoint.node_name, endpoint.zone) == ("first", "a", "east")
    assert endpoint.target_ref is not None
    assert (endpoint.target_ref.kind, endpoint.target_ref.name, endpoint.target_ref.uid) == ("Pod", "web-0", "uid-0")


CONDITIONS = [
    ({}, False, (True, True, False)),
    ({"ready": False}, False, (False, False, False)),
    ({"terminating": True}, False, (False, True, True)),
    ({"ready": False, "terminating": True}, False, (False, False, True)),
    ({"ready": False}, True, (True, False, False)),
    ({"terminating": True}, True, (True, True, True)),
]


@pytest.mark.parametrize(("state", "publish", "conditions"), CONDITIONS)
def test_conditions_follow_readiness_and_termination(
    state: dict[str, Any], publish: bool, conditions: tuple[bool, bool, bool]
) -> None:
    (one,) = made(service(publish_not_ready=publish), [pod(0, **state)])
    found = (one.endpoints or ())[0].conditions
    assert found is not None
    assert (found.ready, found.serving, found.terminating) == conditions


@pytest.mark.parametrize("state", [{"terminal": True}, {"addresses": ()}, {"node": "unknown"}, {"node": ""}])
def test_pods_without_traffic_are_left_out(state: dict[str, Any]) -> None:
    (one,) = made(service(), [pod(0, **state)])
    assert (one.endpoints, one.ports) == ((), ())


def test_a_pod_of_an_unknown_node_is_in_where_the_service_publishes_what_is_not_ready() -> None:
    (one,) = made(service(publish_not_ready=True), [pod(0, node="unknown")])
    assert shape([one]) == [1]


def test_each_family_has_its_slice() -> None:
    found = made(service(families=("IPv4", "IPv6")), pods(2))
    addresses = {one.address_type: [end.addresses[0] for end in one.endpoints or ()] for one in found}
    assert addresses == {"IPv4": ["10.1.0.1", "10.1.0.2"], "IPv6": ["fd00::1", "fd00::2"]}


def test_slices_of_a_family_that_the_service_lost_are_deleted() -> None:
    both = made(service(families=("IPv4", "IPv6")), pods(2))
    (one,) = writes(service(), pods(2), both)
    assert (one.verb, one.before and one.before.address_type) == ("delete", "IPv6")


def test_pods_whose_named_ports_differ_are_in_different_slices() -> None:
    members = [pod(0), pod(1, ports=(NamedPort("http", "TCP", 9090),)), pod(2, ports=(NamedPort("http", "UDP", 1),))]
    found = made(service(ports=(HTTP,)), members)
    ports = {one.ports and one.ports[0].port: [e.addresses[0] for e in one.endpoints or ()] for one in found}
    assert ports == {8080: ["10.1.0.1"], 9090: ["10.1.0.2"], (): ["10.1.0.3"]}


def test_a_service_without_endpoints_has_one_slice_that_says_so() -> None:
    (one,) = empty = made(service(), [])
    assert (one.endpoints, one.ports) == ((), ())
    assert writes(service(), [], empty) == []


def test_the_first_pod_takes_the_empty_slice_and_the_last_leaves_it() -> None:
    empty = made(service(), [])
    (first,) = writes(service(), pods(1), empty)
    (last,) = writes(service(), [], applied(empty, [first]))
    assert (first.verb, last.verb) == ("update", "update")
    assert last.after is not None
    assert (last.after.endpoints, last.after.ports) == ((), ())


def test_a_slice_has_a_hundred_endpoints_at_most() -> None:
    assert shape(made(service(), pods(250))) == [50, MOST, MOST]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_one_pods_change_is_one_write(count: int) -> None:
    members = pods(count)
    existing = made(service(), members)
    (down,) = writes(service(), [replace(members[0], ready=False), *members[1:]], existing)
    (gone,) = writes(service(), members[1:], existing)
    (more,) = writes(service(), [*members, pod(count)], existing)
    assert (down.verb, more.verb) == ("update", "update" if count % MOST else "create")
    assert gone.verb == "update"


def test_a_pod_replaced_by_another_is_one_write_even_where_slices_are_full() -> None:
    members = pods(200)
    (one,) = writes(service(), [*members[1:], pod(200)], made(service(), members))
    assert one.verb == "update"


def test_a_pod_that_reuses_an_address_stands_beside_the_one_that_leaves() -> None:
    address = ("10.1.0.1",)
    old, new = pod(0, addresses=address, terminating=True), pod(1, addresses=address)
    (one,) = made(service(), [old, new])
    assert [(e.addresses, e.target_ref and e.target_ref.name) for e in one.endpoints or ()] == [
        (address, "web-0"),
        (address, "web-1"),
    ]


def test_slices_of_an_earlier_service_of_the_same_name_are_not_taken_over() -> None:
    old = made(service(), pods(1))
    found = writes(service(uid="web-2"), pods(1), old)
    assert Counter(write.verb for write in found) == {"create": 1, "delete": 1}


def test_slices_that_are_being_deleted_do_not_count() -> None:
    (one,) = made(service(), pods(1))
    leaving = replace(one, metadata=replace(one.metadata, deletion_timestamp="2026-01-01T00:00:00Z"))
    assert [write.verb for write in writes(service(), pods(1), [leaving])] == ["create"]


def test_a_service_that_is_being_deleted_gets_no_new_slices() -> None:
    assert writes(service(deleting=True), pods(1)) == []


def test_an_endpoint_that_stands_in_two_slices_leaves_one() -> None:
    (one,) = made(service(), pods(1))
    twin = replace(one, metadata=replace(one.metadata, name="web-9999"))
    (left,) = made(service(), pods(1), [one, twin])
    assert shape([left]) == [1]


def test_labels_of_others_are_put_right_and_their_annotations_and_finalizers_stay() -> None:
    (one,) = made(service(), pods(1))
    meta = replace(one.metadata, labels={}, annotations={"a": "b"}, finalizers=("f",), resource_version="7")
    (write,) = writes(service(), pods(1), [replace(one, metadata=meta)])
    assert write.after is not None
    assert write.after.metadata == replace(meta, labels=one.metadata.labels)


def test_a_service_port_without_a_pod_that_has_it_costs_the_pod_only_that_port() -> None:
    ports = (ServicePort("web", "TCP", 8080), ServicePort("dns", "UDP", "dns"))
    (one,) = made(service(ports=ports), pods(1))
    assert [(port.name, port.port) for port in one.ports or ()] == [("web", 8080)]


def test_existing_ports_in_another_order_are_the_same_ports() -> None:
    ports = (ServicePort("a", "TCP", 1), ServicePort("b", "TCP", 2))
    (one,) = made(service(ports=ports), pods(1))
    turned = replace(one, ports=tuple(reversed(one.ports or ())))
    assert writes(service(ports=ports), pods(1), [turned]) == []


HINTED = [
    ("", None),
    ("PreferClose", (["east"], [])),
    ("PreferSameZone", (["east"], [])),
    ("PreferSameNode", (["east"], ["a"])),
]


@pytest.mark.parametrize(("distribution", "hinted"), HINTED)
def test_hints_follow_the_traffic_distribution(distribution: str, hinted: Any) -> None:
    thing = service(distribution=distribution)
    (one,) = found = made(thing, [pod(0), pod(1, ready=False)])
    ready, other = one.endpoints or ()
    names = ready.hints and tuple(
        [each.name for each in some or ()] for some in (ready.hints.for_zones, ready.hints.for_nodes)
    )
    assert (names, other.hints) == (hinted, None)

    assert writes(service(), [pod(0), pod(1, ready=False)], found) == [] or distribution


# ------------------------------------------------------------ whatever happens

MEMBERS = st.lists(
    st.builds(
        pod,
        st.integers(0, 400),
        ready=st.booleans(),
        terminating=st.booleans(),
        node=st.sampled_from(["a", "b", "unknown"]),
        ports=st.sampled_from([(NamedPort("http", "TCP", 8080),), (NamedPort("http", "TCP", 9090),), ()]),
    ),
    max_size=320,
    unique_by=lambda one: one.name,
)
SERVICES = st.builds(
    service,
    families=st.sampled_from([("IPv4",), ("IPv6", "IPv4")]),
    ports=st.sampled_from([(HTTP,), (HTTP, ServicePort("x", "UDP", 53)), ()]),
    publish_not_ready=st.booleans(),
    distribution=st.sampled_from(["", "PreferSameNode"]),
    topology_mode=st.booleans(),
    labels=st.sampled_from([{}, {"team": "red"}]),
    uid=st.sampled_from(["web-1", "web-2"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SERVICES, MEMBERS), min_size=1, max_size=4))
def test_the_writes_lead_to_what_is_wanted_and_then_there_are_none(steps: list[tuple[Service, list[Pod]]]) -> None:
    slices: list[EndpointSlice] = []
    for thing, members in steps:
        slices = made(thing, members, slices)
        assert writes(thing, members, slices) == []
        desired = {
            (family, ports, id_)
            for family, groups in wanted(thing, members, NODES.get).items()
            for ports, group in groups.items()
            for id_ in group
        }
        listed = [(one.address_type, one.ports, id_of(end)) for one in slices for end in one.endpoints or ()]
        assert len(listed) == len(desired)
        assert set(listed) == desired
        assert all(len(one.endpoints or ()) <= MOST for one in slices)
        assert {one.address_type for one in slices} == set(thing.families)


def test_hand_made_metadata_is_no_owner() -> None:
    found = writes(service(), pods(1), [EndpointSlice(ObjectMeta("web-x", namespace="shop"), "IPv4", (), ())])
    assert Counter(write.verb for write in found) == {"create": 1, "delete": 1}
