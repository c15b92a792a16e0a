"""When a gate is set: every node has the Pod's slices; late nodes are left out after a bound, and named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from controlplane.gate import rounds
from controlplane.gate.early import EarlyEndpoints
from controlplane.gate.pods import GatedPod
from controlplane.gate.rounds import Verdict
from controlplane.gate.setter import Setter
from controlplane.gate.writer import about, condition
from deltaplane.v1 import inspection_pb2 as pb
from tests.unit.controlplane.gate.test_early import EARLY, GONE, OTHER, World, piece, pod

BOUND = 30.0


def answer(having: int, *late: str, applied: bool = False) -> pb.WaitAppliedResponse:
    lacking = [pb.Lacking(node_name=name, text="disconnected for 9.0 s") for name in late]
    return pb.WaitAppliedResponse(
        done=True, applied=applied, nodes_applied=having, chosen_nodes=having + len(late), lacking=lacking
    )


DONE = answer(3, applied=True)


def test_it_is_set_when_all_nodes_have_it() -> None:
    assert rounds.verdict(DONE, 1.0, BOUND) == Verdict(set_=True, reason="Programmed", text="3 of 3 nodes send to it")


def test_it_waits_for_a_late_node_until_the_bound() -> None:
    assert not rounds.verdict(answer(2, "c"), BOUND - 1, BOUND).set_


def test_a_late_node_is_left_out_after_the_bound_and_named() -> None:
    verdict = rounds.verdict(answer(2, "c"), BOUND, BOUND)
    assert (verdict.set_, verdict.told, verdict.reason) == (True, True, "NodesLeftOut")
    assert verdict.text == "2 of 3 nodes send to it after 30 s; left out: c (disconnected for 9.0 s)"


def test_nobody_waits_again_for_a_node_that_was_left_out_and_lacks_every_pod_since() -> None:
    assert rounds.verdict(answer(2, "c"), 2.0, BOUND, {"c", "d"}).reason == "NodesLeftOut"
    assert not rounds.verdict(answer(2, "b"), 2.0, BOUND, {"c"}).set_


@pytest.mark.parametrize("last", [answer(1, "b", "c"), answer(0, "c"), pb.WaitAppliedResponse(done=True)])
def test_where_most_nodes_lack_it_nobody_is_left_out(last: pb.WaitAppliedResponse) -> None:
    verdict = rounds.verdict(last, 100 * BOUND, BOUND)
    assert (verdict.set_, verdict.told, verdict.reason) == (False, True, "TooFewNodes")


class Writes:
    def __init__(self) -> None:
        self.set_: list[tuple[str, str]] = []
        self.told: list[tuple[str, str]] = []

    async def set(self, pod: GatedPod, verdict: Verdict) -> bool:
        self.set_.append((pod.name, verdict.reason))
        return True

    async def tell(self, pod: GatedPod, verdict: Verdict) -> None:
        self.told.append((pod.name, verdict.reason))


class Plane:
    """Answers questions with `last` once it is let."""

    def __init__(self) -> None:
        self.asked: list[pb.WaitAppliedRequest] = []
        self.last = DONE
        self.open = asyncio.Event()
        self.open.set()

    async def wait(self, request: pb.WaitAppliedRequest) -> AsyncGenerator[pb.WaitAppliedResponse, None]:
        self.asked.append(request)
        await self.open.wait()
        yield self.last


class Made:
    def __init__(self) -> None:
        self.world, self.plane, self.writes, self.now = World(), Plane(), Writes(), 100.0
        store = self.world.cluster.store
        self.setter = Setter(
            self.sink, self.plane.wait, store.hash_of, self.writes, bound=BOUND, clock=lambda: self.now
        )

    @property
    def sink(self) -> EarlyEndpoints:
        return self.world.sink

    async def look(self) -> None:
        await self.setter.look()
        for _ in range(30):
            await asyncio.sleep(0)


async def test_pods_of_the_same_slices_share_a_question_of_content() -> None:
    made = Made()
    made.sink.update([piece(0, 0)])
    made.sink.update([EARLY, pod("web-2", OTHER, early=True)])
    (key,) = [each.key for each in made.sink.slices_of(made.sink.waiting["shop", "web-1"])]
    await made.look()
    (asked,) = made.plane.asked
    assert (asked.object.key.name, asked.object.resource_version) == (key.name, "")
    assert asked.object.hash == f"{made.world.cluster.store.hash_of(key):016x}"
    assert made.writes.set_ == [("web-1", "Programmed"), ("web-2", "Programmed")]


async def test_a_gate_is_written_once_while_the_api_has_not_told_of_it() -> None:
    made = Made()
    made.sink.update([EARLY])
    for _ in range(3):
        await made.look()
    assert made.writes.set_ == [("web-1", "Programmed")]
    assert len(made.plane.asked) == 1


async def test_a_pod_that_goes_while_it_is_waited_for_gets_no_gate() -> None:
    made = Made()
    made.plane.open.clear()
    made.sink.update([EARLY])
    await made.look()
    made.sink.update([GONE])
    made.plane.open.set()
    await made.look()
    assert made.writes.set_ == []


async def test_a_slice_that_comes_to_name_it_meanwhile_is_asked_for_too() -> None:
    made = Made()
    made.plane.open.clear()
    made.sink.update([EARLY])
    await made.look()
    made.sink.update([piece(0, 0, name="web-2")])
    made.plane.open.set()
    for _ in range(30):
        await asyncio.sleep(0)
    assert made.writes.set_ == []
    await made.look()
    assert made.writes.set_ == [("web-1", "Programmed")]
    assert [len(asked.also) for asked in made.plane.asked] == [0, 1]


async def test_a_pod_without_a_service_waits_for_one_and_is_not_kept_for_ever() -> None:
    made = Made()
    made.sink.update([pod("alone", bytes(4), early=True)])
    await made.look()
    assert made.writes.set_ == []
    made.now += rounds.WITHOUT_SERVICE
    await made.look()
    assert made.writes.set_ == [("alone", "NoService")]
    assert made.plane.asked == []


async def test_nodes_that_are_late_are_named_in_an_event_and_not_waited_for_again() -> None:
    made = Made()
    made.plane.last = answer(2, "c")
    made.sink.update([EARLY])
    await made.look()
    made.now += BOUND
    await made.look()
    assert (made.writes.told, made.writes.set_) == ([("web-1", "NodesLeftOut")], [("web-1", "NodesLeftOut")])
    made.sink.update([GONE])
    made.sink.update([pod("web-9", early=True)])
    await made.look()
    assert made.writes.set_[-1] == ("web-9", "NodesLeftOut")


def test_what_is_written_is_the_one_condition_of_the_one_pod() -> None:
    value = GatedPod("shop", "web-1", "uid", early=True)
    verdict = Verdict(set_=True, reason="Programmed", text="3 of 3 nodes send to it")
    patch = condition(value, verdict, "2026-01-01T00:00:00Z")
    assert patch["metadata"] == {"uid": "uid"}
    (one,) = patch["status"]["conditions"]
    assert (one["type"], one["status"], one["reason"]) == ("deltaplane.dev/programmed", "True", "Programmed")
    assert about(value, verdict)["involvedObject"]["uid"] == "uid"
