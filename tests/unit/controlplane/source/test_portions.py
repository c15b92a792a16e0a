"""Much input holds the event loop in portions, and what is half taken in is never taken for a whole list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import Any

import pytest

from controlplane.facts import Fact
from controlplane.source.kubernetes import RESOURCES
from controlplane.source.portions import TEXT_BYTES, WEIGHT, by_bytes, by_weight, feed_list
from controlplane.source.reflector import Reflector
from controlplane.source.resource import ApiError
from deltaplane.model import Endpoint, EndpointPort, EndpointSlice, Kind
from tests.sessions import objects
from tests.unit.controlplane.source.recorder import Recorder

SLICES, ENDPOINTS = 60, 100
END = {"k8s.io/initial-events-end": "true"}


def fact(number: int, endpoints: int) -> Fact:
    listed = tuple(Endpoint(bytes((10, number, 0, last))) for last in range(endpoints))
    slice_ = EndpointSlice("ns", f"s-{number}", "s", 4, (EndpointPort("", 6, 80),), listed)
    return Fact(slice_.key, slice_, str(number))


class Sink:
    """Writes down in which portions facts come, and how often everybody else had a turn before each."""

    def __init__(self) -> None:
        self.turns = 0
        self.steps: list[tuple[str, int, int]] = []  # what, facts, turns so far

    def update(self, facts: Iterable[Fact]) -> None:
        self.steps.append(("update", len(list(facts)), self.turns))

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        self.steps.append(("replace", len(list(facts)), self.turns))

    def synced(self, kind: Kind) -> None:
        self.steps.append(("synced", 0, self.turns))

    async def tick(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "sizes, portions", [([], []), ([10], [1]), ([10, TEXT_BYTES, 10, 10], [1, 1, 2]), ([1] * 7, [3, 3, 1])]
)
def test_lines_go_on_by_bytes_and_by_number(sizes: list[int], portions: list[int]) -> None:
    lines = [b"x" * size for size in sizes]
    cut = list(by_bytes(lines, 3))
    assert [len(portion) for portion in cut] == portions
    assert [line for portion in cut for line in portion] == lines


def test_facts_go_on_by_what_they_weigh() -> None:
    facts = [fact(number, 250) for number in range(9)]
    cut = list(by_weight(facts))
    assert [one for portion in cut for one in portion] == facts
    assert max(sum(251 for _ in portion) for portion in cut) <= WEIGHT
    assert len(list(by_weight([Fact(objects.service(1).key, None)] * WEIGHT))) == 1
    mixed = [fact(1, 250)] * 2 + [Fact(objects.service(1).key, None)] * 600
    assert [len(portion) for portion in by_weight(mixed)] == [2 + WEIGHT - 502, 600 - (WEIGHT - 502)]


async def test_a_short_list_is_one_stroke() -> None:
    sink = Sink()
    await feed_list(sink, [fact(number, 3) for number in range(5)])
    assert sink.steps == []


class Api:
    """Streams `lists` as WatchLists of one endpoint more each; a watch that follows one is refused as expired."""

    server = "https://test"

    def __init__(self, lists: int) -> None:
        self.lists = lists
        self.made = 0
        self.done = asyncio.Event()

    async def lines(self, resource: object, query: dict[str, str], timeout: object) -> AsyncIterator[list[bytes]]:
        yield []
        if self.made == self.lists:
            self.done.set()
            await asyncio.Event().wait()
        if "sendInitialEvents" not in query:
            raise ApiError("expired", 410)
        self.made += 1
        yield [self._event("ADDED", number) for number in range(SLICES)]
        yield [self._event("BOOKMARK", 0)]
        if self.made < self.lists:
            raise ApiError("expired", 410)

    async def fetch(self, *_: object) -> bytes:
        return json.dumps({"metadata": {"resourceVersion": str(100 * self.made)}, "items": []}).encode()

    def _event(self, kind: str, number: int) -> bytes:
        meta: dict[str, Any] = {
            "name": f"s-{number}",
            "namespace": "ns",
            "resourceVersion": str(100 * self.made + number),
        }
        meta |= {"labels": {"kubernetes.io/service-name": "s"}} if kind == "ADDED" else {"annotations": END}
        endpoints = [{"addresses": [f"10.{self.made}.{number}.{last}"]} for last in range(ENDPOINTS)]
        thing = {"metadata": meta, "addressType": "IPv4", "ports": [{"name": "", "port": 80}], "endpoints": endpoints}
        return json.dumps({"type": kind, "object": thing}).encode()


async def test_a_long_list_lets_others_have_their_turn_and_is_whole_only_at_its_end() -> None:
    sink, api = Sink(), Api(lists=2)

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    made: Any = api
    reflector = Reflector(Kind.ENDPOINT_SLICE, RESOURCES[Kind.ENDPOINT_SLICE], made, sink, Recorder(), sleep=at_once)
    tasks = [asyncio.create_task(reflector.run()), asyncio.create_task(sink.tick())]
    await asyncio.wait_for(api.done.wait(), 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    steps = [what for what, _, _ in sink.steps]
    per_list = steps.index("replace")
    assert steps == (["update"] * per_list + ["replace", "synced"]) * 2
    assert per_list >= SLICES * ENDPOINTS // WEIGHT
    updates = [turns for what, _, turns in sink.steps if what == "update"]
    assert all(later > earlier for earlier, later in pairwise(updates))
    assert [number for what, number, _ in sink.steps if what == "replace"] == [SLICES, SLICES]
