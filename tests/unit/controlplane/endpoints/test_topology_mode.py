"""Hints by the annotation topology-mode: each zone gets its share, and what has its share is not written again."""

from __future__ import annotations

from collections import Counter

import pytest

from controlplane.endpoints.objects import EndpointSlice
from controlplane.endpoints.slicing import plan
from controlplane.endpoints.values import Node, Pod
from tests.unit.controlplane.endpoints.things import applied, pod, service

EAST, WEST = Node("a", "east", 4000, counted=True), Node("b", "west", 4000, counted=True)
AUTO = service(topology_mode=True, distribution="PreferSameZone")


def made(members: list[Pod], cluster: list[Node], existing: list[EndpointSlice] | None = None) -> list[EndpointSlice]:
    nodes = {node.name: node for node in cluster}
    return applied(existing or [], plan(AUTO, members, nodes.get, existing or [], cluster))


def zones(slices: list[EndpointSlice]) -> Counter[tuple[str, str]]:
    """How many endpoints of which zone have hints for which."""
    ends = [end for one in slices for end in one.endpoints or () if end.hints]
    return Counter((end.zone or "", (end.hints.for_zones or ())[0].name) for end in ends if end.hints)


def test_endpoints_stay_in_their_zones_where_these_have_their_share() -> None:
    found = made([pod(n, node="ab"[n % 2]) for n in range(4)], [EAST, WEST])
    assert zones(found) == {("east", "east"): 2, ("west", "west"): 2}


def test_a_zone_with_too_few_gets_endpoints_of_another() -> None:
    found = made([pod(n, node="aaaaab"[n]) for n in range(6)], [EAST, WEST])
    assert zones(found) == {("east", "east"): 3, ("east", "west"): 2, ("west", "west"): 1}


UNSHARED = [
    [EAST],
    [EAST, Node("b", "", 4000, counted=True)],
    [EAST, Node("b", "west", 0, counted=True)],
    [EAST, Node("b", "west", 4000)],
]


@pytest.mark.parametrize("cluster", UNSHARED)
def test_without_two_zones_of_known_size_there_are_no_hints(cluster: list[Node]) -> None:
    assert zones(made([pod(n) for n in range(4)], cluster)) == {}


def test_fewer_endpoints_than_zones_have_no_hints() -> None:
    assert zones(made([pod(0), pod(1, ready=False)], [EAST, WEST])) == {}


def test_hints_that_still_do_are_not_written_again_and_go_when_there_is_one_zone() -> None:
    members = [pod(n, node="aaaaab"[n]) for n in range(6)]
    found = made(members, [EAST, WEST])
    nodes = {"a": EAST, "b": WEST}
    assert plan(AUTO, members, nodes.get, found, [EAST, WEST]) == []
    assert zones(made(members, [EAST], found)) == {}


def test_a_zone_that_grew_gets_more() -> None:
    members = [pod(n, node="ab"[n % 2]) for n in range(8)]
    found = made(members, [EAST, WEST])
    large = Node("b", "west", 12000, counted=True)
    assert sum(n for (_, zone), n in zones(made(members, [EAST, large], found)).items() if zone == "west") == 6
