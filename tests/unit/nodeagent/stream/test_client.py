"""One stream after another: which server is next, what is said of it, and what goes on without a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import pytest

from deltaplane.backoff import Backoff
from nodeagent.stream import client as module
from nodeagent.stream.call import Ended
from nodeagent.stream.client import Client, Pauses

PAUSES = Pauses(idle=0.001, failed=Backoff(0.0, 0.0), refused=0.0, redirected=0.0, steady=0.0)
PATIENCE = 20.0


class Talk:
    """A conversation that notes what it is asked."""

    def __init__(self) -> None:
        self.ticks = self.ended = 0
        self.elsewhere: tuple[float, tuple[str, ...]] | None = None
        self.broken: Exception | None = None
        self.ticked = asyncio.Event()

    def tick(self, now: float) -> list[bytes]:
        self.ticks += 1
        self.ticked.set()
        if self.broken is not None:
            raise self.broken
        return []

    def long_tick(self, now: float) -> bool:
        return False

    def disconnected(self, now: float) -> None:
        self.ended += 1

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        told, self.elsewhere = self.elsewhere, None
        return told


class Streams:
    """In place of `call.Stream`: each ends as the list says, and the last one stays."""

    def __init__(self, *ends: Ended | Exception) -> None:
        self.ends = list(ends)
        self.dialled: list[str] = []
        self.planned = self.unsaid = 0
        self.open = asyncio.Event()
        self.greeted: Callable[[], None] = lambda: None

    def __call__(self, *given: Any, **_: Any) -> Streams:
        self.greeted = given[4]
        return self

    async def run(self, server: str) -> Ended:
        self.dialled.append(server)
        if not self.ends:
            self.greeted()
            self.open.set()
            await asyncio.Event().wait()
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def plan(self) -> None:
        self.planned += 1

    async def say_unsaid(self) -> None:
        self.unsaid += 1


class Run:
    """A client on such streams, until one stays open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ends: Ended | Exception) -> None:
        self.streams, self.talk = Streams(*ends), Talk()
        self.defects: list[str] = []
        self.counted: list[str] = []
        monkeypatch.setattr(module, "Stream", self.streams)
        monkeypatch.setattr("nodeagent.stream.client.random.shuffle", lambda _: None)
        talk: Any = self.talk
        self.client = Client(["a:1", "b:1", "c:1"], talk, pauses=PAUSES, defect=self._defect, count=self._count)

    def _defect(self, name: str, error: BaseException) -> None:
        self.defects.append(f"{name}: {error}")

    def _count(self, kind: str) -> None:
        self.counted.append(kind)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.client.run())
        async with asyncio.timeout(PATIENCE):
            await self.streams.open.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


async def test_servers_are_dialled_in_turn_and_each_end_is_told_to_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Run(monkeypatch, *[Ended("gone")] * 4) as run:
        assert run.streams.dialled == ["a:1", "b:1", "c:1", "a:1", "b:1"]
        assert run.talk.ended == 4
    assert run.talk.ended == 5


async def test_a_server_is_spoken_of_once_until_something_else_is_to_be_said_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ends = [Ended("refused"), Ended("refused"), Ended("refused")] * 2 + [Ended("reset")]
    async with Run(monkeypatch, *ends):
        said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "server=a:1" in line and "refused" in line][1:] == []
    assert len([line for line in said if line.startswith("not connected")]) == 4
    assert len([line for line in said if line.startswith("connected")]) == 1


async def test_what_raises_in_a_stream_is_a_defect_that_is_told_and_the_next_stream_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Run(monkeypatch, ZeroDivisionError("oops"), Ended("x", defect=ValueError("of a message"))) as run:
        assert run.defects == ["stream: oops", "stream: of a message"]
        assert run.streams.dialled == ["a:1", "b:1", "c:1"]


async def test_after_a_goaway_the_named_servers_of_the_own_list_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, Ended("go away", heard=True))
    run.talk.elsewhere = (0.0, ("c:1", "evil:1"))
    async with run:
        assert run.streams.dialled == ["a:1", "c:1"]


async def test_the_agent_ticks_without_a_stream_and_a_fault_there_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.talk.broken = ZeroDivisionError("oops")
    task = asyncio.create_task(run.client._idle_ticks())
    async with asyncio.timeout(PATIENCE):
        while run.talk.ticks < 3:
            run.talk.ticked.clear()
            await run.talk.ticked.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert run.defects[:2] == ["idle ticks: oops"] * 2


async def test_a_call_aside_says_what_waits_before_and_has_the_stream_look_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[int] = []
    run = Run(monkeypatch)
    await run.client.aside(lambda: called.append(1))
    assert (called, run.streams.unsaid, run.streams.planned) == ([1], 0, 0)
    async with run:
        await run.client.aside(lambda: called.append(2))
        assert (called, run.streams.unsaid, run.streams.planned) == ([1, 2], 1, 1)


async def test_what_a_call_aside_raises_reaches_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oops")

    with pytest.raises(ZeroDivisionError):
        await Run(monkeypatch).client.aside(broken)


async def test_each_end_is_counted_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Run(monkeypatch, Ended("x", kind="unavailable"), Ended("lost"), ZeroDivisionError("oops")) as run:
        assert run.counted == ["unavailable", "given-up", "defect"]


class Waits:
    """In place of `waiting.Wait`: notes what it is asked, and ends each pause at once."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def attempt(self) -> None:
        self.noted.append("attempt")

    async def over(self, seconds: float) -> None:
        self.noted.append("pause")


async def test_own_files_may_end_the_pause_after_each_attempt_but_not_what_a_goaway_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, waits = Run(monkeypatch, Ended("go away", heard=True), Ended("no", refused=True), Ended("lost")), Waits()
    monkeypatch.setattr(run.client, "_wait", waits)
    run.talk.elsewhere = (0.0, ())
    async with run:
        assert waits.noted == ["attempt", "attempt", "pause", "attempt", "pause", "attempt"]
