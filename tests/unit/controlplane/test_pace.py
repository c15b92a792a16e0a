"""Revisions are offered to the streams in rounds, whose number follows from what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from controlplane import pace
from controlplane.cluster import WATCHED, Cluster
from controlplane.log import Log
from controlplane.pace import Pace
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.trace import NoTracing
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.unit.controlplane.test_store_log import put


class Place:
    """A paced history whose rounds cost what the test says, and streams of the pace."""

    def __init__(self) -> None:
        self.cost = 0.0  # CPU seconds so far
        self.cluster = Cluster(Log(), NoTracing())
        for kind in WATCHED:
            self.cluster.synced(kind)
        self.log = self.cluster.log
        self.pace = Pace(self.log, spent=lambda: self.cost)
        self.awake = asyncio.Event()
        self.woken: list[int] = []  # what was offered each time a stream was woken

    def change(self) -> None:
        self.cluster.update([put(objects.service(self.log.head))])

    def wake(self) -> None:
        self.woken.append(self.log.offered)
        self.awake.set()

    async def round(self, number: int) -> None:
        async with asyncio.timeout(10):
            while self.pace.rounds < number:
                self.awake.clear()
                await self.awake.wait()

    def stream(self) -> Session:
        """One that follows the head."""
        session = Session(self.cluster.store, self.log, Snapshots(self.cluster.store, self.log))
        resume = pb.Resume(epoch=self.log.epoch, applied_rev=self.log.head, state_digest=self.log.digest)
        hello = pb.Hello(node_name="node-1", protocol_min=1, protocol_max=1, resume=resume)
        session.on_message(pb.WatchRequest(hello=hello), 0.0)
        while session.next_message(0.0) is not None:
            pass
        return session


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    with made.pace.pacing(made.cluster.waking), made.pace.waking(made.wake):
        yield made


async def test_a_change_after_a_quiet_time_is_offered_at_once(place: Place) -> None:
    place.change()
    assert place.woken == [2]


async def test_changes_during_a_costly_round_are_one_wake_up_and_one_message_for_each_stream(place: Place) -> None:
    stream = place.stream()
    place.change()
    assert stream.next_message(0.0) is not None
    place.cost += 0.1
    for _ in range(10):
        place.change()
    assert (place.woken, place.log.offered, place.log.head) == ([2], 2, 12)
    assert stream.next_message(0.0) is None, "what is not offered is not sent"
    await place.round(2)
    assert place.woken == [2, 12]
    message = stream.next_message(0.0)
    assert message is not None
    assert message is place.log.merged(2, 12), "the bytes are shared"
    assert stream.next_message(0.0) is None


async def test_rounds_that_cost_nothing_hold_up_no_change(place: Place) -> None:
    for _ in range(5):
        place.change()
    assert place.woken == [2, 3, 4, 5, 6]


async def test_a_round_is_due_after_a_bounded_time_whatever_the_last_one_cost(place: Place) -> None:
    place.change()
    place.cost += 1000.0
    place.change()
    await place.round(2)
    assert place.woken == [2, 3]


async def test_what_others_make_the_process_do_holds_up_no_round_of_few_streams(place: Place) -> None:
    place.change()
    place.cost += 1000.0  # a flood of messages, say
    place.change()
    async with asyncio.timeout(pace.LONGEST / 2):
        await place.round(2)
    assert place.woken == [2, 3]


async def test_a_round_of_many_streams_is_held_up_for_what_it_costs(place: Place) -> None:
    with ExitStack() as streams:
        for _ in range(1000):
            streams.enter_context(place.pace.waking(lambda: None))
        place.change()
        place.cost += 0.3
        began = asyncio.get_running_loop().time()
        place.change()
        await place.round(2)
        assert asyncio.get_running_loop().time() - began > 0.5


async def test_a_history_that_begins_anew_waits_for_no_round(place: Place) -> None:
    place.change()
    place.cost += 1000.0
    place.change()
    place.cluster.log.renew(place.cluster.store.digest.value)
    place.pace.news()
    assert place.woken == [2, 1]
    assert place.log.offered == place.log.head == 1


async def test_a_stream_that_ended_is_not_woken_and_nothing_is_held_back_without_a_pace(place: Place) -> None:
    with place.pace.waking(lambda: pytest.fail("woken")):
        pass
    place.change()
    other = Place()
    other.change()
    assert other.log.offered == other.log.head == 2
