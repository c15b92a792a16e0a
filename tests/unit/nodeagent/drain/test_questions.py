"""Questions of Pods: own state first, one question for each address, shares, and no work for who has gone."""

from __future__ import annotations

import asyncio

import pytest

from deltaplane.addresses import parse_address
from nodeagent.drain.callers import Caller, Refused
from nodeagent.drain.questions import AFTER_A_PAUSE, MOST, Questions
from nodeagent.drain.upstream import Answer

ADDRESS = parse_address("10.0.0.1")


class Own:
    def __init__(self) -> None:
        self.using = ""
        self.looks = 0

    async def caller(self, address: bytes) -> Caller:
        return Caller(address)

    async def still(self, caller: Caller) -> str:
        self.looks += 1
        return self.using


class Plane:
    """The control plane: answers once it is let."""

    def __init__(self, *, open_: bool = True) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()
        if open_:
            self.open.set()

    async def gone(self, address: str, seconds: float) -> Answer:
        self.asked.append(address)
        await self.open.wait()
        return Answer(gone=True, nodes=3)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_control_plane_is_not_asked_before_this_nodes_own_state_has_let_go() -> None:
    own, plane = Own(), Plane()
    questions = Questions(own, plane.gone)
    own.using = "Service shop/web still sends to it"
    asking = asyncio.create_task(questions.gone(ADDRESS, 30))
    await settled()
    assert plane.asked == []

    own.using = ""
    questions.moved()
    async with asyncio.timeout(20):
        assert (await asking).answer.gone
    assert plane.asked == ["10.0.0.1"]


async def test_a_pod_that_does_not_end_costs_the_control_plane_nothing() -> None:
    own, plane = Own(), Plane()
    own.using = "Service shop/web still sends to it: it is ready"
    outcome = await Questions(own, plane.gone).gone(ADDRESS, 0.05)
    assert (outcome.answer.gone, outcome.still, plane.asked) == (False, own.using, [])


async def test_the_containers_of_a_pod_share_one_question() -> None:
    plane = Plane(open_=False)
    questions = Questions(Own(), plane.gone)
    asking = [asyncio.create_task(questions.gone(ADDRESS, 30)) for _ in range(6)]
    await settled()
    plane.open.set()
    assert all(outcome.answer.gone for outcome in await asyncio.gather(*asking))
    assert plane.asked == ["10.0.0.1"]
    assert len(questions) == 0


async def test_a_question_ends_with_the_last_who_waits_for_it() -> None:
    plane = Plane(open_=False)
    questions = Questions(Own(), plane.gone)
    first, second = (asyncio.create_task(questions.gone(ADDRESS, 30)) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    assert len(questions) == 1
    second.cancel()
    await settled()
    assert len(questions) == 0
    assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]


async def test_an_address_that_asks_again_and_again_is_sent_away_and_others_are_not() -> None:
    questions = Questions(Own(), Plane().gone, clock=lambda: 1.0)
    for _ in range(int(AFTER_A_PAUSE)):
        await questions.gone(ADDRESS, 30)
    with pytest.raises(Refused, match="asked too often") as refused:
        await questions.gone(ADDRESS, 30)
    assert refused.value.status == 429
    assert (await questions.gone(parse_address("10.0.0.2"), 30)).answer.gone


async def test_no_more_addresses_wait_than_there_is_room_for() -> None:
    plane = Plane(open_=False)
    questions = Questions(Own(), plane.gone)
    asking = [asyncio.create_task(questions.gone(number.to_bytes(4), 30)) for number in range(MOST)]
    await settled()
    with pytest.raises(Refused) as refused:
        await questions.gone(ADDRESS, 30)
    assert refused.value.status == 503
    plane.open.set()
    await asyncio.gather(*asking)


async def test_who_is_refused_learns_why() -> None:
    class Strict(Own):
        async def caller(self, address: bytes) -> Caller:
            raise Refused(403, "hostNetwork")

    questions = Questions(Strict(), Plane().gone)
    with pytest.raises(Refused, match="hostNetwork"):
        await questions.gone(ADDRESS, 30)
    assert len(questions) == 0
