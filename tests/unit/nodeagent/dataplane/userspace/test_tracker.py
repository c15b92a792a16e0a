"""Which redirects differ."""

from __future__ import annotations

import random

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.tracker import NODE
from nodeagent.dataplane.userspace.tracker import REDIRECTS, REFUSALS, STANDS, Placement, Slots

A, B = (ObjectKey(Kind.SERVICE, "n", name) for name in "ab")
SLOTS = [bytes((4, 10, 0, 0, n, 6, 0, 0, 0, 0, 80, 0, 0)) for n in range(4)]
TO: list[Placement] = [((REDIRECTS, bytes((127, 0, 0, 1, 0, n, 0, 0))),) for n in range(3)]
MEMBER = b"\x04\x00\x0a\x00\x00\x01"
NODE_MEMBER = b"\x04\x02\x0a\x00\x00\x01"


def write(slots: Slots) -> int:
    done = list(slots.differences())
    slots.settle(done)
    assert list(slots.differences()) == []
    assert not slots.pending
    return len(done)


def standing(slots: Slots) -> dict[bytes, Placement]:
    return {**slots.frontends.actual, **dict.fromkeys(slots.members.actual, STANDS)}


def test_only_what_differs_is_written() -> None:
    slots = Slots()
    slots.hold(A, {SLOTS[0]: TO[0], SLOTS[1]: TO[1]}, (MEMBER,))
    assert write(slots) == 3
    slots.hold(A, {SLOTS[0]: TO[0], SLOTS[1]: TO[1]}, (MEMBER,))
    assert write(slots) == 0
    slots.hold(A, {SLOTS[0]: TO[0], SLOTS[1]: ((REFUSALS, "reject"),)}, (MEMBER,))
    assert write(slots) == 1
    slots.hold(A, {})
    assert write(slots) == 3
    assert standing(slots) == {}


def test_what_comes_is_written_before_what_goes() -> None:
    slots = Slots()
    slots.hold(A, {SLOTS[0]: TO[0]})
    write(slots)
    slots.hold(A, {SLOTS[1]: TO[0]})
    assert [difference.slot for difference in slots.differences()] == [SLOTS[1], SLOTS[0]]


def test_a_services_members_come_before_its_frontends_and_the_nodes_before_all() -> None:
    slots = Slots()
    slots.hold(B, {SLOTS[1]: TO[1]})
    slots.hold(A, {SLOTS[0]: TO[0]}, (MEMBER,))
    slots.hold(NODE, {}, (NODE_MEMBER,))
    assert [difference.slot for difference in slots.differences()] == [NODE_MEMBER, SLOTS[1], MEMBER, SLOTS[0]]


def test_of_two_that_want_a_frontend_the_last_that_said_so_has_it_and_a_member_stands_for_both() -> None:
    slots = Slots()
    slots.hold(B, {SLOTS[0]: TO[1]}, (MEMBER,))
    write(slots)
    slots.hold(A, {SLOTS[0]: TO[0]}, (MEMBER,))
    assert write(slots) == 1
    slots.hold(B, {})
    assert write(slots) == 0
    assert standing(slots) == {SLOTS[0]: TO[0], MEMBER: STANDS}
    slots.hold(A, {})
    assert write(slots) == 2
    assert standing(slots) == {}


def test_what_nobody_wants_goes_and_the_nodes_own_once_that_is_known() -> None:
    slots = Slots()
    slots.forget({SLOTS[0]: TO[0], SLOTS[1]: TO[1], MEMBER: STANDS, NODE_MEMBER: STANDS})
    slots.hold(A, {SLOTS[0]: TO[0]})
    slots.retire()
    assert {difference.slot for difference in slots.differences()} == {SLOTS[1], MEMBER}
    write(slots)
    slots.hold(NODE, {})
    slots.retire()
    assert write(slots) == 1
    assert standing(slots) == {SLOTS[0]: TO[0]}


def test_any_order_ends_in_what_is_wanted() -> None:
    for seed in range(200):
        dice, slots, wishes = random.Random(seed), Slots(), dict[ObjectKey, dict[bytes, Placement]]()
        for _ in range(12):
            owner = dice.choice((A, B))
            own = SLOTS[:2] if owner == A else SLOTS[2:]  # whose a frontend is, is decided before
            wishes[owner] = {slot: dice.choice(TO) for slot in dice.sample(own, dice.randint(0, 2))}
            slots.hold(owner, wishes[owner])
            if dice.random() < 0.4:
                slots.settle(dice.sample(found := list(slots.differences()), dice.randint(0, len(found))))
            if dice.random() < 0.1:
                slots.forget({slot: dice.choice(TO) for slot in dice.sample(SLOTS, 2)})
                slots.retire()
        write(slots)
        assert standing(slots) == {**wishes.get(B, {}), **wishes.get(A, {})}
