"""A snapshot that is built beside the event loop: who waits is woken, nothing else waits, and a failure passes."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

import pytest

from controlplane import snapshot_builder
from controlplane.building import Done
from controlplane.facts import Fact
from controlplane.session import Limits, Session
from controlplane.snapshot import Snapshots
from controlplane.snapshot_builder import SnapshotBuilder
from deltaplane.snapshot import State, build
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Replica

ZLIB = pb.ENCODING_ZLIB
HELLO = pb.WatchRequest(hello=pb.Hello(node_name="n1", protocol_min=1, protocol_max=1, encodings=[ZLIB]))


class Later:
    """A builder that waits for the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[State, pb.Encoding.ValueType, Done]] = []

    def __call__(self, state: State, encoding: pb.Encoding.ValueType, done: Done) -> None:
        self.asked.append((state, encoding, done))

    def finish(self, *, well: bool = True) -> None:
        state, encoding, done = self.asked.pop(0)
        done(build(state, encoding) if well else None)


class Waiting:
    """A replica whose snapshots are built later, and streams that count how often they are woken."""

    def __init__(self) -> None:
        self.replica, self.later = Replica([objects.service(1)]), Later()
        self.snapshots = Snapshots(self.replica.store, self.replica.log, self.later)
        self.woken: list[str] = []

    def stream(self, name: str) -> Session:
        replica = self.replica
        session = Session(
            replica.store, replica.log, self.snapshots, limits=Limits(heartbeat=10.0),
            wake=lambda: self.woken.append(name),
        )  # fmt: skip
        session.on_message(HELLO, 0.0)
        return session


def kinds(session: Session, now: float) -> list[str | None]:
    found: list[str | None] = []
    while (message := session.next_message(now)) is not None:
        found.append(pb.WatchResponse.FromString(message).WhichOneof("message"))
    return found


SNAPSHOT = ["snapshot_begin", "snapshot_chunk", "snapshot_end"]


def test_streams_wait_for_one_build_and_are_woken_when_it_is_there() -> None:
    waiting = Waiting()
    first, second = waiting.stream("first"), waiting.stream("second")

    assert kinds(first, 0.0) == kinds(second, 0.0) == ["welcome"]
    assert kinds(first, 0.1) == []
    assert len(waiting.later.asked) == 1
    waiting.later.finish()

    assert sorted(waiting.woken) == ["first", "second"]
    assert kinds(first, 0.2) == kinds(second, 0.2) == SNAPSHOT


def test_while_it_is_built_nobody_is_asked_again_before_the_heartbeat_which_goes_out() -> None:
    waiting = Waiting()
    stream = waiting.stream("one")
    kinds(stream, 0.0)

    assert stream.deadline() == 10.0
    assert kinds(stream, 10.0) == ["heartbeat"]


def test_what_changed_meanwhile_follows_as_a_delta() -> None:
    waiting = Waiting()
    stream = waiting.stream("one")
    kinds(stream, 0.0)
    waiting.replica.put(Fact(objects.service_key(2), objects.service(2)))
    waiting.later.finish()

    assert kinds(stream, 0.1) == [*SNAPSHOT, "delta"]
    assert stream.sent_rev == waiting.replica.log.head


def test_one_that_is_older_than_what_a_stream_was_sent_is_built_anew() -> None:
    waiting = Waiting()
    ahead, other = waiting.stream("ahead"), waiting.stream("other")
    kinds(ahead, 0.0)
    waiting.later.finish()
    kinds(ahead, 0.0)
    waiting.replica.log.expire(1e6)
    waiting.replica.put(Fact(objects.service_key(2), objects.service(2)), now=2e6)
    kinds(ahead, 1.0)
    waiting.replica.log.expire(3e6)  # the kept one is of no use to anybody any more
    kinds(other, 1.0)
    waiting.replica.put(Fact(objects.service_key(3), objects.service(3)), now=3e6)
    kinds(ahead, 1.0)
    assert ahead.sent_rev == waiting.replica.log.head
    ahead.on_message(pb.WatchRequest(resync_request=pb.ResyncRequest()), 1.0)
    kinds(ahead, 1.0)
    assert len(waiting.later.asked) == 1
    waiting.later.finish()

    assert kinds(other, 2.0) == [*SNAPSHOT, "delta"]
    assert kinds(ahead, 2.0) == []
    waiting.later.finish()
    assert kinds(ahead, 3.0) == SNAPSHOT


def test_one_that_cannot_be_built_is_tried_again_with_the_next_heartbeat() -> None:
    waiting = Waiting()
    stream = waiting.stream("one")
    kinds(stream, 0.0)
    waiting.later.finish(well=False)

    assert waiting.woken == []
    assert kinds(stream, stream.deadline()) == ["heartbeat"]
    waiting.later.finish()
    assert kinds(stream, 11.0) == SNAPSHOT


async def test_in_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica([objects.service(1)])
    snapshots, woken = Snapshots(replica.store, replica.log, SnapshotBuilder()), asyncio.Event()

    assert snapshots.take(ZLIB, 0, woken.set) is None
    await asyncio.wait_for(woken.wait(), 10)
    assert (found := snapshots.take(ZLIB)) is not None
    assert found.rev == replica.log.head


async def test_a_thread_that_fails_says_so_and_leaves_the_next_try_free(caplog: pytest.LogCaptureFixture) -> None:
    replica, ended = Replica([objects.service(1)]), asyncio.Event()
    builder = SnapshotBuilder()

    def done(snapshot: object) -> None:
        assert snapshot is None
        ended.set()

    with patch.object(snapshot_builder, "build", side_effect=ValueError("torn")):
        builder(State(b"e", 7, tuple(replica.store.objects()), 0, {}), ZLIB, done)
        await asyncio.wait_for(ended.wait(), 10)
    assert 'snapshot cannot be built rev=7 error="ValueError: torn"' in caplog.text


def test_builds_that_are_asked_for_again_and_again_take_a_third_of_the_time() -> None:
    rest, now, building = snapshot_builder.Rest(), 0.0, 0.0
    while now < 1000.0:
        now += rest.wait(now)
        rest.built(now, now + 0.33)
        now, building = now + 0.33, building + 0.33
    assert 330 < building < 335
    assert snapshot_builder.Rest().wait(0.0) == 0.0
