"""A stream's writer sends what there is when it is woken or when the time has come, without a task of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from controlplane import writing
from controlplane.writing import Turns, Writer


class Messages:
    """What the test lets it send. `looks` counts how often it was asked."""

    def __init__(self, *messages: bytes) -> None:
        self.left = deque(messages)
        self.looks, self.over, self.due = 0, False, inf
        self.error: Exception | None = None

    def next(self, now: float) -> bytes | None:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.left.popleft() if self.left else None

    def deadline(self) -> float:
        return min(self.due, time.monotonic() + 30.0)


class Wire:
    """Takes messages; each write waits until `free` lets it end."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.got: list[bytes] = []
        self._at_once = at_once
        self._waits: deque[asyncio.Future[None]] = deque()

    async def write(self, message: bytes) -> None:
        self.got.append(message)
        if not self._at_once:
            self._waits.append(asyncio.get_running_loop().create_future())
            await self._waits[-1]

    @property
    def busy(self) -> bool:
        return bool(self._waits)

    def free(self, error: Exception | None = None) -> None:
        wait = self._waits.popleft()
        if error is None:
            wait.set_result(None)
        else:
            wait.set_exception(error)


async def turns(number: int = 4) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def writer(source: Messages, wire: Wire, *, limit: float = 60.0, among: Turns | None = None) -> Writer:
    return Writer(source, wire.write, among or Turns(), limit)


async def test_what_there_is_is_sent_in_order_one_after_another() -> None:
    source, wire = Messages(b"1", b"2"), Wire()
    one = writer(source, wire)
    one.wake()
    await turns()
    assert wire.got == [b"1"]
    wire.free()
    await turns()
    assert wire.got == [b"1", b"2"]
    one.close()


async def test_many_wake_ups_are_one_look() -> None:
    source, wire = Messages(), Wire()
    one = writer(source, wire)
    for _ in range(5):
        one.wake()
    await turns()
    assert source.looks == 1
    one.close()


async def test_what_comes_while_it_writes_follows_without_a_wake_up_of_its_own() -> None:
    source, wire = Messages(b"1"), Wire()
    one = writer(source, wire)
    one.wake()
    await turns()
    source.left.append(b"2")
    one.wake()
    await turns()
    assert source.looks == 1
    wire.free()
    await turns()
    assert wire.got == [b"1", b"2"]
    one.close()


async def test_writes_that_wait_for_nothing_are_all_made_in_one_look() -> None:
    source, wire = Messages(b"1", b"2", b"3"), Wire(at_once=True)
    one = writer(source, wire)
    one.wake()
    await turns(1)
    await turns()
    assert wire.got == [b"1", b"2", b"3"]
    one.close()


async def test_the_writers_of_a_round_are_one_callback_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PORTION", 10)
    scheduled: list[str] = []
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon

    def counted(callback: Callable[..., object], *rest: Any, **more: Any) -> asyncio.Handle:
        scheduled.append(getattr(callback, "__qualname__", ""))
        return call_soon(callback, *rest, **more)

    monkeypatch.setattr(loop, "call_soon", counted)
    among, wire = Turns(), Wire(at_once=True)
    many = [writer(Messages(b"1"), wire, among=among) for _ in range(25)]
    for one in many:
        one.wake()
    await turns()
    assert len(wire.got) == 25
    assert scheduled.count("Turns._serve") == 3
    for one in many:
        one.close()


async def test_the_time_wakes_a_writer_that_nobody_wakes_and_never_too_early() -> None:
    source, wire = Messages(), Wire(at_once=True)
    source.due = when = time.monotonic() + 0.05
    one = writer(source, wire)
    one.wake()
    await turns()
    source.left.append(b"beat")
    source.over = True
    source.due = inf
    await asyncio.wait_for(one.ended, 10)
    assert time.monotonic() >= when - 0.001
    assert wire.got == [b"beat"]
    one.close()


async def test_a_time_that_moves_to_later_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    source, wire = Messages(), Wire(at_once=True)
    one = writer(source, wire)
    timers: list[float] = []
    call_at = loop.call_at

    def counted(when: float, callback: Callable[..., object], *rest: object, **more: Any) -> asyncio.TimerHandle:
        if getattr(callback, "__self__", None) is one:
            timers.append(when)
        return call_at(when, callback, *rest, **more)

    monkeypatch.setattr(loop, "call_at", counted)
    for number in range(100):
        source.left.append(b"1")
        source.due = time.monotonic() + 10 + number
        one.wake()
        await turns(2)
    assert len(wire.got) == 100
    assert len(timers) <= 2  # for the write, and for the sleep, which is sooner
    one.close()


async def test_a_write_that_takes_too_long_ends_the_stream() -> None:
    source, wire = Messages(b"1"), Wire()
    one = writer(source, wire, limit=0.05)
    one.wake()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.ended, 10)
    assert wire.busy
    one.close()


async def test_what_a_write_raises_ends_the_stream() -> None:
    source, wire = Messages(b"1"), Wire()
    one = writer(source, wire)
    one.wake()
    await turns()
    wire.free(RuntimeError("broken pipe"))
    with pytest.raises(RuntimeError, match="broken pipe"):
        await asyncio.wait_for(one.ended, 10)
    one.close()


async def test_what_one_source_raises_ends_its_stream_alone() -> None:
    among, wire = Turns(), Wire(at_once=True)
    bad, good = Messages(), Messages(b"1")
    bad.error = RuntimeError("a defect")
    first, second = writer(bad, wire, among=among), writer(good, wire, among=among)
    first.wake()
    second.wake()
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(first.ended, 10)
    assert wire.got == [b"1"]
    first.close()
    second.close()


async def test_a_source_that_is_over_ends_the_stream_after_its_last_message() -> None:
    source, wire = Messages(b"goodbye"), Wire()
    source.over = True
    one = writer(source, wire)
    one.wake()
    await turns()
    assert not one.ended.done()
    wire.free()
    await asyncio.wait_for(one.ended, 10)
    one.close()


async def test_a_closed_writer_sends_nothing_more_and_leaves_no_write_behind() -> None:
    source, wire = Messages(b"1", b"2"), Wire()
    one = writer(source, wire)
    one.wake()
    await turns()
    one.close()
    one.wake()
    await turns()
    assert wire.got == [b"1"]
    assert source.looks == 1
