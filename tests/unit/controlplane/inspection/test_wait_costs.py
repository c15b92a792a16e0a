"""What waiting costs: looks at nodes, Acks that come sooner, places."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from controlplane.inspection.rooms import WAITERS
from controlplane.inspection.selection import Selection
from controlplane.inspection.targets import OfRevision
from controlplane.inspection.waits import HASTED_ACKS, HASTES, HASTES_AT_ONCE, Floors, Waiter, hastes
from deltaplane.v1 import inspection_pb2 as inspection
from tests.unit.controlplane.inspection.calls import SERVICE, applied, change, wait
from tests.unit.controlplane.inspection.replica import Aborted, Asked


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_a_hundred_waiters_look_at_each_node_about_once_however_many_acks_come(asked: Asked) -> None:
    nodes, waiters, acks = 100, 100, 10
    sessions = [asked.node(f"n{number}") for number in range(nodes)]
    for session in sessions:
        applied(asked, session)
    change(asked)
    here, rev = asked.here, asked.cluster.log.head
    waiting = [Waiter(here, OfRevision(here, rev), Selection(here, inspection.NodeSelection())) for _ in range(waiters)]
    for waiter in waiting:
        waiter.look()
    for _ in range(acks):  # they say nothing new
        for session in sessions:
            applied(asked, session, rev - 1)
        for waiter in waiting:
            assert not waiter.look()
    idle = sum(waiter.looks for waiter in waiting)
    assert idle <= waiters * (acks + 2)

    for session in sessions:
        applied(asked, session)
    assert all(waiter.look() for waiter in waiting)
    assert sum(waiter.looks for waiter in waiting) - idle <= waiters * (2 * nodes + 3)


async def test_all_who_wait_for_the_whole_cluster_share_one_look_at_its_nodes(asked: Asked) -> None:
    """And none is taken while the last node has not moved."""
    here, floors = asked.here, Floors(asked.here)
    sessions = [asked.node(f"n{number}") for number in range(50)]
    for session in sessions:
        applied(asked, session)
    change(asked)
    rev, whole = asked.cluster.log.head, inspection.NodeSelection()
    waiting = [Waiter(here, OfRevision(here, rev), Selection(here, whole)) for _ in range(100)]
    assert not any(waiter.look(floors) for waiter in waiting)
    found = floors.known
    for session in sessions[1:]:
        applied(asked, session)
        floors.tick()
        assert not any(waiter.look(floors) for waiter in waiting)
    assert floors.known is found
    applied(asked, sessions[0])
    floors.tick()
    assert all(waiter.look(floors) for waiter in waiting)
    assert sum(waiter.looks for waiter in waiting) == 0


async def test_an_ack_costs_nothing_while_nobody_waits_and_one_look_for_many_acks(asked: Asked) -> None:
    session = asked.node("a")
    applied(asked, session)
    assert asked.waits._timer is None
    call = wait(asked, 0.3, revision=inspection.RevisionOf(rev=asked.cluster.log.head + 5))
    await call.looked()
    asked.waits.moved()
    timer = asked.waits._timer
    for _ in range(100):
        asked.waits.moved()
    assert asked.waits._timer is timer
    await call.end()
    assert not len(asked.waits)


async def test_agents_acknowledge_at_once_what_is_waited_for_and_not_yet_there_and_nothing_after(asked: Asked) -> None:
    session = asked.node("a")
    applied(asked, session)
    call = wait(asked, revision=inspection.RevisionOf(rev=asked.cluster.log.head + 1))
    await call.looked()
    assert asked.hastened()
    await call.looked()
    assert not asked.hastened()
    applied(asked, session)
    await call.end()
    assert not asked.hastened()


async def test_waiters_hasten_a_bounded_number_of_acks(asked: Asked) -> None:
    call = wait(asked, revision=inspection.RevisionOf(rev=10_000))
    hastened = 0
    for _ in range(3 * int(HASTES_AT_ONCE)):
        await call.looked()
        hastened += asked.hastened()
    call.task.cancel()
    with suppress(asyncio.CancelledError):
        await call.task
    assert 1 <= hastened <= 2 * HASTES_AT_ONCE


@pytest.mark.parametrize("nodes", [0, 1, 50, 1_000, 5_000])
def test_the_more_nodes_there_are_the_seldomer_all_acknowledge_at_once(nodes: int) -> None:
    assert 0 < hastes(nodes) <= HASTES
    assert hastes(nodes) * nodes <= HASTED_ACKS


async def test_the_more_wait_for_the_more_nodes_the_seldomer_each_looks_at_all_of_them(asked: Asked) -> None:
    for number in range(20):
        applied(asked, asked.node(f"n{number}"))
    assert asked.waits.spell(2.0, looks=10.0) == 2.0
    calls = [wait(asked, revision=inspection.RevisionOf(rev=10_000)) for _ in range(3)]
    for call in calls:
        await call.looked()

    assert asked.waits.spell(2.0, looks=10.0) == 3 * 20 / 10.0

    for call in calls:
        call.task.cancel()
    await asyncio.gather(*(call.task for call in calls), return_exceptions=True)


@pytest.mark.parametrize("peer", [False, True], ids=["an operator", "another replica"])
async def test_where_many_wait_the_nodes_that_lack_it_are_named_seldom_and_at_the_end(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, peer: bool
) -> None:
    """Another replica hears something meanwhile, so that it does not take this one for stopped."""
    monkeypatch.setattr("controlplane.inspection.waiting.NEWS", 0.2)
    monkeypatch.setattr("controlplane.inspection.everywhere.NEWS", 0.2)
    few, many = list[int](), list[int]()
    for looks, messages in ((1e9, few), (0.01, many)):
        monkeypatch.setattr("controlplane.inspection.waiting.NEWS_LOOKS", looks)
        monkeypatch.setattr("controlplane.inspection.everywhere.NEWS_LOOKS", looks)
        asked.node("a")
        call = wait(asked, 1.0, revision=inspection.RevisionOf(rev=10_000), this_replica=peer)
        await call.end()
        messages += [len(each.lacking) for each in call.messages]

    assert few[-1] == many[-1] == 1
    assert len(few) >= 4
    if peer:
        assert sum(few) >= 4
        assert (len(many) >= 4, sum(many) <= 3) == (True, True)  # at first, and as the end comes
    else:
        assert many == [1]


async def test_who_waits_for_the_whole_cluster_is_answered_without_a_look_at_each_node(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [asked.node(f"n{number}") for number in range(50)]
    change(asked)
    call = wait(asked, object=SERVICE)
    await call.looked()
    looked: list[str] = []
    monkeypatch.setattr(Waiter, "has", lambda _, name: looked.append(name))
    for session in sessions:
        applied(asked, session)
    answer = await call.end()
    assert (answer.applied, answer.nodes_applied, answer.chosen_nodes) == (True, 50, 50)
    assert list(answer.newly_applied) == sorted(session.node_name for session in sessions)
    assert looked == []


async def test_one_address_does_not_have_all_places_to_wait_and_gives_them_back(asked: Asked) -> None:
    calls = [wait(asked, revision=inspection.RevisionOf(rev=10_000)) for _ in range(WAITERS // 2)]
    await calls[-1].looked()
    await asyncio.gather(*(call.looked() for call in calls))
    assert len(asked.waits) == WAITERS // 2
    with pytest.raises(Aborted, match=f"{WAITERS // 2} calls wait"):
        await wait(asked, object=SERVICE).end()
    for call in calls:
        call.task.cancel()
    await asyncio.gather(*(call.task for call in calls), return_exceptions=True)
    assert not len(asked.waits)
