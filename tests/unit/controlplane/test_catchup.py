"""A stream's way to a state to build on: one snapshot for each need, and nothing kept that has been answered."""

from __future__ import annotations

import pytest

from controlplane.catchup import CatchUp, resumed
from controlplane.facts import Fact
from controlplane.snapshot import Snapshots
from controlplane.stream_events import BroughtUp
from deltaplane.digest import BUCKET
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Replica
from tests.unit.controlplane.test_snapshot_builder import Later

PLAIN = pb.ENCODING_IDENTITY


class Place:
    def __init__(self) -> None:
        self.replica, self.later, self.woken = Replica([objects.service(1)]), Later(), 0
        snapshots = Snapshots(self.replica.store, self.replica.log, self.later)
        self.catch_up = CatchUp(snapshots, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def held(self) -> bytes:
        return self.replica.store.digest.at(BUCKET)

    def messages(self) -> int:
        number = 0
        while self.catch_up.sending:
            self.catch_up.next()
            number += 1
        return number


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_snapshot_is_wanted_until_it_has_begun_and_is_then_sent_to_its_end(place: Place) -> None:
    place.catch_up.want(3.0, "GAP")
    assert (place.catch_up.wanted, place.catch_up.at, place.catch_up.sending) == (True, 3.0, False)
    assert place.catch_up.begin(PLAIN, 0) is None
    assert place.catch_up.wanted
    place.later.finish()

    assert place.woken == 1
    begun = place.catch_up.begin(PLAIN, 0)
    assert begun is not None
    rev, how = begun
    assert (rev, how.reason, how.extent) == (place.replica.log.head, "GAP", "whole")
    assert (place.catch_up.wanted, place.catch_up.sending) == (False, True)
    assert place.messages() == 3


def test_digests_are_kept_until_they_are_answered(place: Place) -> None:
    held = place.held()
    place.replica.put(Fact(objects.service_key(2), objects.service(2)))
    place.catch_up.want(0.0, "CONNECTED", held)
    place.catch_up.begin(PLAIN, 0)
    assert place.catch_up.inquiry.held == held
    place.later.finish()

    begun = place.catch_up.begin(PLAIN, 0)

    assert begun is not None
    assert begun[1].detail == "1 of 256 buckets"
    assert not place.catch_up.inquiry.held


def test_what_was_being_sent_gives_way_to_what_is_wanted_next(place: Place) -> None:
    place.catch_up.want(0.0, "CONNECTED")
    place.catch_up.begin(PLAIN, 0)
    place.later.finish()
    place.catch_up.begin(PLAIN, 0)
    place.catch_up.next()

    place.catch_up.want(5.0, "GAP")

    assert (place.catch_up.sending, place.catch_up.wanted) == (False, True)


def test_a_stream_that_ends_keeps_nothing(place: Place) -> None:
    place.catch_up.want(0.0, "CONNECTED", place.held())
    place.catch_up.give_up()
    assert (place.catch_up.wanted, place.catch_up.sending, place.catch_up.inquiry.held) == (False, False, b"")


def test_an_agent_that_needs_no_snapshot_is_brought_up_by_deltas_or_by_nothing() -> None:
    assert resumed("in the log", equal=False) == BroughtUp("CONNECTED", "delta", "in the log")
    assert str(resumed("the states are equal", equal=True)) == "CONNECTED: nothing, the states are equal"
