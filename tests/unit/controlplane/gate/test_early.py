"""Endpoints whose Pod lacks only this project's gate are streamed as ready, from then until their slice says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.cluster import Cluster
from controlplane.facts import Fact
from controlplane.gate.early import EarlyEndpoints
from controlplane.gate.pods import FORM, GATE, ONLY_GATES, POD, GatedPod
from controlplane.log import Log
from controlplane.source.decode import Decoder
from controlplane.trace import NoTracing
from deltaplane.addresses import parse_address
from deltaplane.model import Conditions, Endpoint, EndpointPort, EndpointSlice, Kind, ObjectKey

ADDRESS, OTHER = parse_address("10.0.0.1"), parse_address("10.0.0.2")
READY = int(Conditions.READY | Conditions.SERVING)
LEAVING = int(Conditions.SERVING | Conditions.TERMINATING)
KEY = ObjectKey(Kind.ENDPOINT_SLICE, "shop", "web-1")


def piece(*conditions: int, version: str = "", name: str = "web-1") -> Fact:
    endpoints = (Endpoint(ADDRESS, conditions[0], "a"), Endpoint(OTHER, conditions[1], "a"))
    thing = EndpointSlice("shop", name, "web", 4, (EndpointPort("", 6, 80),), endpoints)
    return Fact(thing.key, thing, version)


def pod(name: str = "web-1", address: bytes = ADDRESS, **state: bool) -> Fact:
    value = GatedPod("shop", name, f"uid-{name}", "a", (address,), **state)
    return Fact(ObjectKey(POD, "shop", name), value)  # type: ignore[arg-type]


EARLY = pod(early=True)
IS_READY = pod(ready=True, programmed=True)
FAILING = pod(programmed=True)
GONE = Fact(EARLY.key, None)


class World:
    def __init__(self, *, complete: bool = True) -> None:
        self.cluster = Cluster(Log(), NoTracing())
        self.sink = EarlyEndpoints(self.cluster)
        self.sink.replace(Kind.ENDPOINT_SLICE, [piece(0, READY)], "")
        for kind in Kind if complete else ():
            self.sink.synced(kind)
        if complete:
            self.sink.synced(POD)

    def conditions(self, name: str = "web-1") -> list[int]:
        found = self.cluster.store.get(ObjectKey(Kind.ENDPOINT_SLICE, "shop", name))
        assert isinstance(found, EndpointSlice)
        return [endpoint.conditions for endpoint in found.endpoints]


@pytest.mark.parametrize("complete", [False, True])
def test_an_endpoint_is_ready_from_when_its_pod_lacks_only_the_gate(*, complete: bool) -> None:
    world = World(complete=complete)
    assert world.conditions() == [0, READY]
    world.sink.update([EARLY])
    assert world.conditions() == [READY, READY]


def test_a_slice_that_comes_after_its_pod_is_ready_at_once() -> None:
    world = World()
    world.sink.update([EARLY])
    world.sink.update([piece(0, READY, name="web-2")])
    assert world.conditions("web-2") == [READY, READY]


def test_no_node_hears_of_a_change_when_the_slice_says_so_itself() -> None:
    """Between the kubelet's word and the slice's, the endpoint must not go away."""
    world = World()
    world.sink.update([EARLY])
    head = world.cluster.log.head
    world.sink.update([IS_READY])
    assert world.conditions() == [READY, READY]
    world.sink.update([piece(0, 0)])  # another Pod's change, from before the controller has heard of ours
    assert world.conditions() == [READY, 0]
    world.sink.update([piece(READY, 0)])
    assert world.conditions() == [READY, 0]
    assert world.cluster.log.head == head + 1


def test_a_pod_whose_containers_fail_is_no_longer_ready_early() -> None:
    world = World()
    world.sink.update([EARLY])
    world.sink.update([FAILING])
    assert world.conditions() == [0, READY]


@pytest.mark.parametrize("kept", [GONE, FAILING])
def test_what_the_slice_said_comes_back_with_its_own_conditions(kept: Fact) -> None:
    world = World()
    serving = int(Conditions.SERVING)
    world.sink.update([piece(serving, READY)])
    world.sink.update([EARLY])
    assert world.conditions() == [READY, READY]
    world.sink.update([kept])
    assert world.conditions() == [serving, READY]


def test_an_endpoint_that_was_ready_by_its_slice_goes_with_its_slice() -> None:
    """Whoever takes it out of the slice later means it, though the Pod stays Ready."""
    world = World()
    world.sink.update([EARLY])
    world.sink.update([IS_READY])
    world.sink.update([piece(READY, READY)])
    world.sink.update([piece(0, READY)])
    assert world.conditions() == [0, READY]


def test_an_endpoint_that_terminates_is_never_ready_early() -> None:
    world = World()
    world.sink.update([piece(LEAVING, READY)])
    world.sink.update([EARLY])
    assert world.conditions() == [LEAVING, READY]


def test_two_pods_of_a_slice_that_come_at_once_are_both_ready() -> None:
    world = World()
    world.sink.update([piece(0, 0)])
    world.sink.update([EARLY, pod("web-2", OTHER, early=True)])
    assert world.conditions() == [READY, READY]


def test_a_pod_that_a_list_lacks_is_gone() -> None:
    world = World()
    world.sink.update([EARLY])
    world.sink.replace(POD, [], "")
    assert world.conditions() == [0, READY]
    assert world.sink.waiting == {}


def test_a_pod_of_another_namespace_or_node_with_the_address_changes_nothing() -> None:
    world = World()
    strange = GatedPod("other", "web-1", "u", "a", (ADDRESS,), early=True)
    elsewhere = GatedPod("shop", "web-9", "v", "b", (ADDRESS,), early=True)
    for value in (strange, elsewhere):
        world.sink.update([Fact(ObjectKey(POD, value.namespace, value.name), value)])  # type: ignore[arg-type]
    assert world.conditions() == [0, READY]


def test_only_pods_whose_gate_is_to_be_set_wait() -> None:
    world = World()
    world.sink.update([EARLY, pod("web-2", OTHER, early=True, programmed=True), pod("web-3", OTHER)])
    assert list(world.sink.waiting) == [("shop", "web-1")]
    assert [each.name for each in world.sink.slices_of(world.sink.waiting["shop", "web-1"])] == ["web-1"]
    world.sink.update([IS_READY])
    assert world.sink.waiting == {}


def test_nothing_is_streamed_before_pods_are_listed_unless_they_cannot_be() -> None:
    world = World(complete=False)
    for kind in Kind:
        world.sink.synced(kind)
    assert not world.cluster.ready
    world.sink.let_go("pods: 403")
    assert world.cluster.ready


# ------------------------------------------------------------ Pods as the API has them


Fields = dict[str, Any]
SEEN = [{"type": "Ready", "status": "False", "reason": ONLY_GATES}]


def api(metadata: Fields | None = None, spec: Fields | None = None, status: Fields | None = None) -> GatedPod | None:
    """A Pod that lacks only the gate, with something changed."""
    addresses = [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "x"}]
    status = {"phase": "Running", "podIPs": addresses, "conditions": SEEN} | (status or {})
    spec = {"nodeName": "a", "readinessGates": [{"conditionType": GATE}]} | (spec or {})
    metadata = {"name": "web-1", "namespace": "shop", "uid": "u", "resourceVersion": "7"} | (metadata or {})
    line = json.dumps({"type": "ADDED", "object": {"metadata": metadata, "spec": spec, "status": status}}).encode()
    item = Decoder(FORM).event(line, 0).item
    assert item is not None
    assert item.fact is not None
    return item.fact.object  # type: ignore[return-value]


def test_a_pod_is_read() -> None:
    addresses = (ADDRESS, parse_address("fd00::1"))
    assert api() == GatedPod("shop", "web-1", "u", "a", addresses, early=True)


@pytest.mark.parametrize(
    "more",
    [
        {"spec": {"readinessGates": None}},
        {"spec": {"readinessGates": [{"conditionType": "example.com/other"}]}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"status": {"phase": "Succeeded"}},
    ],
)
def test_nothing_is_kept_of_a_pod_without_the_gate_or_that_ends(more: dict[str, Fields]) -> None:
    assert api(**more) is None


OTHERS = [{"conditionType": GATE}, {"conditionType": "example.com/other"}]


@pytest.mark.parametrize(
    ("more", "early"),
    [
        ({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]}}, False),
        ({"status": {"conditions": []}}, False),
        ({"spec": {"readinessGates": OTHERS}}, False),
        ({"status": {"conditions": [*SEEN, {"type": GATE, "status": "True"}]}}, True),
    ],
    ids=["containers are not ready", "nothing is known", "another gate is false", "the kubelet has not seen it yet"],
)
def test_whether_only_the_gate_is_missing(more: dict[str, Fields], *, early: bool) -> None:
    found = api(**more)
    assert found is not None
    assert found.early is early
