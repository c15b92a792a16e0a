"""Which redirects differ."""

from __future__ import annotations

import random

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.userspace.tracker import NODE, REDIRECTS, REFUSALS, STANDS, Placement, Tracker

A, B = (ObjectKey(Kind.SERVICE, "n", name) for name in "ab")
SLOTS = [bytes((4, 10, 0, 0, n, 6, 0, 0, 0, 0, 80, 0, 0)) for n in range(4)]
TO: list[Placement] = [((REDIRECTS, bytes((127, 0, 0, 1, 0, n, 0, 0))),) for n in range(3)]
MEMBER = b"\x04\x00\x0a\x00\x00\x01"
NODE_MEMBER = b"\x04\x02\x0a\x00\x00\x01"


def write(tracker: Tracker) -> int:
    done = list(tracker.differences())
    tracker.settle(done)
    assert list(tracker.differences()) == []
    return len(done)


def test_only_what_differs_is_written() -> None:
    tracker = Tracker()
    tracker.hold(A, {SLOTS[0]: TO[0], SLOTS[1]: TO[1], MEMBER: STANDS})
    assert write(tracker) == 3
    tracker.hold(A, {SLOTS[0]: TO[0], SLOTS[1]: TO[1], MEMBER: STANDS})
    assert write(tracker) == 0
    tracker.hold(A, {SLOTS[0]: TO[0], SLOTS[1]: ((REFUSALS, "reject"),), MEMBER: STANDS})
    assert write(tracker) == 1
    tracker.hold(A, {})
    assert write(tracker) == 3
    assert tracker.standing == {}


def test_what_comes_is_written_before_what_goes() -> None:
    tracker = Tracker()
    tracker.hold(A, {SLOTS[0]: TO[0]})
    write(tracker)
    tracker.hold(A, {SLOTS[1]: TO[0]})
    assert [difference.slot for difference in tracker.differences()] == [SLOTS[1], SLOTS[0]]


def test_of_two_that_want_a_frontend_the_first_by_name_has_it() -> None:
    tracker = Tracker()
    tracker.hold(B, {SLOTS[0]: TO[1]})
    write(tracker)
    tracker.hold(A, {SLOTS[0]: TO[0]})
    assert write(tracker) == 1
    assert tracker.standing == {SLOTS[0]: TO[0]}
    assert list(tracker.conflicts()) == [(B, SLOTS[0], A)]
    tracker.hold(A, {})
    assert write(tracker) == 1
    assert tracker.standing == {SLOTS[0]: TO[1]}
    assert list(tracker.conflicts()) == []


def test_what_nobody_wants_goes_and_the_nodes_own_once_that_is_known() -> None:
    tracker = Tracker()
    tracker.restart({SLOTS[0]: TO[0], SLOTS[1]: TO[1], MEMBER: STANDS, NODE_MEMBER: STANDS})
    tracker.hold(A, {SLOTS[0]: TO[0]})
    tracker.retire_unclaimed()
    assert {difference.slot for difference in tracker.differences()} == {SLOTS[1], MEMBER}
    write(tracker)
    tracker.hold(NODE, {})
    tracker.retire_unclaimed()
    assert write(tracker) == 1
    assert tracker.standing == {SLOTS[0]: TO[0]}


def test_any_order_ends_in_what_is_wanted() -> None:
    for seed in range(200):
        dice, tracker, wishes = random.Random(seed), Tracker(), dict[ObjectKey, dict[bytes, Placement]]()
        for _ in range(12):
            owner = dice.choice((A, B))
            wishes[owner] = {slot: dice.choice(TO) for slot in dice.sample(SLOTS, dice.randint(0, 4))}
            tracker.hold(owner, wishes[owner])
            if dice.random() < 0.4:
                tracker.settle(dice.sample(found := list(tracker.differences()), dice.randint(0, len(found))))
            if dice.random() < 0.1:
                tracker.restart({slot: dice.choice(TO) for slot in dice.sample(SLOTS, 2)})
                tracker.retire_unclaimed()
        write(tracker)
        assert tracker.standing == {**wishes.get(B, {}), **wishes.get(A, {})}
