"""Partial snapshots are built a few at a time, shared by all whom one serves, and forgotten with the log."""

from __future__ import annotations

import pytest

from controlplane import partial
from controlplane.facts import Fact
from controlplane.partial import Partials
from deltaplane.digest import BUCKET
from deltaplane.snapshot import Snapshot
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Replica
from tests.unit.controlplane.test_snapshot_builder import Later

ZLIB = pb.ENCODING_ZLIB
Held = bytes


class Place:
    """A replica of twenty Services, and a builder that waits for the test."""

    def __init__(self) -> None:
        self.replica, self.later = Replica(objects.service(n) for n in range(20)), Later()
        self.partials = Partials(self.replica.store, self.replica.log, self.later)
        self.woken: list[str] = []

    def held(self) -> Held:
        return self.replica.store.digest.at(BUCKET)

    def change(self, number: int, version: int = 1) -> None:
        self.replica.put(Fact(objects.service_key(number), objects.service(number, version)))

    def take(self, held: Held, name: str = "x", at_least: int = 0) -> Snapshot | None:
        return self.partials.take(held, ZLIB, at_least, lambda: self.woken.append(name))


def numbers(snapshot: Snapshot) -> int:
    return 0 if snapshot.places is None else len(snapshot.places.numbers)


@pytest.fixture
def place() -> Place:
    return Place()


def test_streams_that_lack_the_same_wait_for_one_build(place: Place) -> None:
    held = place.held()
    place.change(1)
    assert place.take(held, "a") is place.take(held, "b") is None
    assert len(place.later.asked) == 1

    place.later.finish()

    assert sorted(place.woken) == ["a", "b"]
    assert (found := place.take(held)) is not None
    assert numbers(found) == 1


def test_one_that_was_built_serves_whoever_lacks_less(place: Place) -> None:
    old = place.held()
    place.change(1)
    newer = place.held()
    place.change(2)
    place.take(old)
    place.later.finish()

    assert place.take(newer) is place.take(old) is not None


def test_whoever_lacks_far_less_than_one_has_is_not_sent_it(place: Place) -> None:
    old = place.held()
    place.change(1)
    place.change(2)
    newer = place.held()
    place.change(3)
    place.take(old)
    place.later.finish()
    place.take(newer)
    place.take(place.held())
    place.later.finish()
    place.later.finish()

    found = [place.take(held) for held in (old, newer, place.held())]

    assert [numbers(each) for each in found if each is not None] == [3, 1, 0]


def test_one_does_not_serve_whoever_differs_elsewhere(place: Place) -> None:
    held = place.held()
    place.change(1)
    place.take(held)
    place.later.finish()
    place.change(2)
    ahead = place.held()
    place.change(1, 2)

    assert place.take(held) is not None  # what followed it is in the log
    assert place.take(ahead) is None
    assert place.take(held, at_least=place.replica.log.head) is None


def test_it_goes_with_the_log_and_with_the_epoch(place: Place) -> None:
    held = place.held()
    place.change(1)
    place.take(held)
    place.later.finish()
    place.change(2)
    place.replica.log.expire(1e9)
    assert place.take(held) is None
    place.later.finish()
    assert place.take(held) is not None
    place.replica.log.renew(place.replica.store.digest.value)
    assert place.take(held) is None


def test_no_more_than_a_few_are_built_at_a_time_and_the_others_are_woken(place: Place) -> None:
    states = []
    for number in range(4):
        states.append(place.held())
        place.change(number)
        place.change(10 + number)
    for index, held in enumerate(reversed(states)):  # each lacks more than the one before
        place.take(held, str(index))
    assert len(place.later.asked) == partial.AT_A_TIME

    place.later.finish()

    assert sorted(place.woken) == ["0", "2", "3"]
    assert place.take(states[0], "3") is None
    assert len(place.later.asked) == partial.AT_A_TIME


def test_one_that_cannot_be_built_makes_room_and_wakes_nobody_who_would_ask_for_it_at_once(place: Place) -> None:
    held = place.held()
    place.change(1)
    place.take(held)
    place.later.finish(well=False)

    assert place.woken == []
    assert place.take(held) is None
    assert len(place.later.asked) == 1


def test_only_a_bounded_number_is_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "KEPT", 2)
    states = []
    for number in range(4):
        states.append(place.held())
        place.change(number)
    for held in reversed(states):
        place.take(held)
        place.later.finish()

    assert len(place.partials) == 2
    assert place.take(states[0]) is not None


def test_only_as_many_bytes_are_kept_as_there_is_room_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "KEPT_BYTES", 1)
    for number in range(3):
        held = place.held()
        place.change(number)
        place.take(held)
        place.later.finish()

    assert len(place.partials) == 1
