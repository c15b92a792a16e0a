"""What another mode left goes once everything is in; what connections go through, once they have ended."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nodeagent.dataplane.commit_hooks import Wanted
from nodeagent.dataplane.modes import Released, leftovers
from nodeagent.dataplane.modes.leftovers import Leftovers
from nodeagent.dataplane.outcome import Commit
from nodeagent.errors import KernelUnavailable

USED = Released(("rules",), ("an address",))


class Remains:
    """What a mode left: carries connections for so many looks. `asked` has how patient each call was."""

    def __init__(self, looks: int = 0) -> None:
        self.left, self.now = looks, 0.0
        self.asked: list[bool] = []
        self.broken = False
        self.gone = threading.Event()

    def remove(self, patient: bool) -> Released:
        self.asked.append(patient)
        if self.broken:
            raise KernelUnavailable("broken")
        self.left -= 1
        if patient and self.left >= 0:
            return USED
        self.gone.set()
        return Released()

    def follower(self, seconds: float = 60) -> Leftovers:
        return Leftovers(self.remove, seconds, lambda: self.now)


async def complete(follower: Leftovers) -> None:
    follower.want(Wanted(complete=True))
    follower.committed(Commit(), 0.0)
    if follower.due.is_set():
        await follower.look()


async def test_once_and_after_everything_is_in() -> None:
    remains = Remains()
    follower = remains.follower()
    follower.want(Wanted())
    follower.committed(Commit(), 0.0)
    assert remains.asked == []
    await complete(follower)
    await complete(follower)
    assert remains.asked == [True]
    assert not follower.due.is_set()


async def test_what_carries_connections_goes_when_they_have_ended() -> None:
    remains = Remains(2)
    follower = remains.follower()
    await complete(follower)
    assert follower.due.is_set()
    await follower.look()
    assert follower.due.is_set()
    await follower.look()
    assert not follower.due.is_set()
    assert remains.asked == [True] * 3


async def test_it_goes_when_time_is_up() -> None:
    remains = Remains(1000)
    follower = remains.follower(60)
    await complete(follower)
    remains.now = 60.0
    await follower.look()
    assert remains.asked == [True, False]
    assert not follower.due.is_set()


async def test_without_time_it_goes_at_once() -> None:
    remains = Remains(1000)
    await complete(remains.follower(0))
    assert remains.asked == [False]


async def test_what_cannot_be_removed_is_tried_again_with_the_next_complete_state() -> None:
    remains = Remains(1)
    follower = remains.follower()
    await complete(follower)
    remains.broken = True
    await follower.look()
    assert not follower.due.is_set()
    remains.broken = False
    await complete(follower)
    assert remains.asked == [True] * 3


async def test_it_looks_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PAUSE", 0.0)
    remains = Remains(3)
    follower = remains.follower()
    looking = asyncio.create_task(follower.run())
    follower.want(Wanted(complete=True))
    follower.committed(Commit(), 0.0)
    assert remains.asked == []  # the Ack goes first
    assert await asyncio.to_thread(remains.gone.wait, 10)
    looking.cancel()
    assert remains.asked == [True] * 4


async def test_changes_are_served_meanwhile() -> None:
    looking, served = threading.Event(), threading.Event()

    def remove(patient: bool) -> Released:
        looking.set()
        return Released() if served.wait(10) else USED

    follower = Leftovers(remove, 60)
    task = asyncio.create_task(complete(follower))
    assert await asyncio.to_thread(looking.wait, 10)
    assert follower.due.is_set()
    served.set()
    await task
    assert not follower.due.is_set()
