"""Calls of the agent beside its event loop: one at a time, messages first, and nothing that fails is lost."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from nodeagent.linux.readable import readable
from nodeagent.stream.beside import Beside, always
from nodeagent.stream.turns import Turns

PATIENCE = 20.0  # seconds that anything may take on a busy machine


class Held:
    """A call that lasts until it is let go; `said` is the order in which calls were made."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.said: list[str] = []

    def __call__(self) -> str:
        self.said.append("long")
        assert self.goes_on.wait(PATIENCE)
        self.said.append("long is over")
        return threading.current_thread().name

    def note(self, what: str) -> Callable[[], None]:
        return lambda: self.said.append(what)


async def under_way(held: Held, beside: Beside) -> asyncio.Task[str]:
    task = asyncio.create_task(beside.turn(held, long=always))
    await until(lambda: bool(held.said))
    assert beside.busy
    return task


async def test_a_short_call_is_made_on_the_loop_and_suspends_nobody() -> None:
    beside = Beside()
    turn = beside.turn(threading.get_ident)

    with pytest.raises(StopIteration) as ended:
        turn.send(None)

    assert ended.value.value == threading.get_ident()


async def test_the_loop_runs_during_a_long_call_and_what_waits_follows_messages_first() -> None:
    held, beside = Held(), Beside()
    long = await under_way(held, beside)

    tick = asyncio.create_task(beside.turn(held.note("tick")))
    await asyncio.sleep(0)
    messages = [asyncio.create_task(beside.turn(held.note(f"message {n}"), message=True)) for n in (1, 2)]
    await asyncio.sleep(0)
    held.goes_on.set()

    assert await long == "commits"
    await asyncio.gather(tick, *messages)
    assert held.said == ["long", "long is over", "message 1", "message 2", "tick"]
    assert await beside.close(PATIENCE)


async def test_whoever_gives_up_waiting_keeps_nobody_else_from_his_turn() -> None:
    turns = Turns()
    await turns.take()
    waiting = [asyncio.create_task(turns.take()) for _ in range(3)]
    await asyncio.sleep(0)

    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    turns.leave()  # the turn is the second one's
    waiting[1].cancel()  # who does not take it

    async with asyncio.timeout(PATIENCE):
        await waiting[2]
    turns.leave()
    assert not turns.taken


async def test_what_a_long_call_raises_is_raised_where_it_is_waited_for() -> None:
    beside = Beside()
    with pytest.raises(ZeroDivisionError):
        await beside.turn(lambda: 1 // 0, long=always)

    assert await beside.turn(lambda: "next", long=always) == "next"


async def test_a_long_call_that_nobody_waits_for_keeps_its_turn_and_its_error_is_told() -> None:
    told: list[BaseException] = []
    held, beside = Held(), Beside(lambda _, error: told.append(error))

    def fails() -> None:
        held()
        raise LookupError("late")

    long = asyncio.create_task(beside.turn(fails, long=always))
    await until(lambda: bool(held.said))
    long.cancel()
    next_one = asyncio.create_task(beside.turn(held.note("next")))
    await asyncio.wait([long])
    beside.now(held.note("never"))
    held.goes_on.set()
    await next_one

    assert held.said == ["long", "long is over", "next"]
    assert [str(error) for error in told] == ["late"]


async def test_what_is_due_is_done_before_a_long_call_and_not_before_a_short_one() -> None:
    beside, said = Beside(), list[str]()

    async def before() -> None:
        said.append("before")

    await beside.turn(lambda: said.append("short"), before=before)
    await beside.turn(lambda: said.append("long"), long=always, before=before)

    assert said == ["short", "before", "long"]


async def test_a_message_after_one_that_took_long_is_not_handled_on_the_loop() -> None:
    held, beside = Held(), Beside()
    held.goes_on.set()
    here = threading.current_thread()

    await beside.turn(lambda: threading.Event().wait(0.1), message=True)

    assert await beside.turn(threading.current_thread, message=True) is not here
    assert await beside.turn(threading.current_thread, message=True) is here


async def test_calls_from_the_thread_are_made_at_home_in_order_and_raise_there() -> None:
    beside, said = Beside(), list[threading.Thread]()

    def away() -> int:
        for _ in range(3):
            beside.at_home(lambda: said.append(threading.current_thread()))
        with pytest.raises(IndexError):
            beside.at_home(lambda: said.pop(99))
        return beside.at_home(lambda: len(said))

    assert await beside.turn(away, long=always) == 3
    assert said == [threading.current_thread()] * 3


async def test_the_end_waits_for_a_long_call_for_a_limited_time() -> None:
    held, beside = Held(), Beside()
    long = await under_way(held, beside)
    other = Beside()

    assert not await beside.close(0.01)
    assert not await beside.close(PATIENCE)  # it was asked once
    assert await other.close(PATIENCE)
    held.goes_on.set()
    await long


async def test_a_descriptor_that_is_not_read_yet_does_not_keep_the_loop_busy() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"news")
        async with asyncio.timeout(PATIENCE):
            await readable(reading)
        assert not asyncio.get_running_loop().remove_reader(reading)
    finally:
        os.close(reading)
        os.close(writing)


async def until(true: Callable[[], bool]) -> None:
    """Lets the loop run until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - a thread makes it so
            await asyncio.sleep(0.001)
