"""Which Service is next, and when one that failed is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from controlplane.endpoints.queue import Queue

A, B = ("shop", "a"), ("shop", "b")


class Timers:
    """Collects what would be called later."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Callable[[], None]]] = []
        self.cancelled = 0

    def __call__(self, delay: float, call: Callable[[], None]) -> Timers:
        self.set.append((delay, call))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def queue() -> tuple[Queue, Timers]:
    timers = Timers()
    return Queue(timers, lambda: 1.0), timers


async def test_each_waits_once_and_in_order() -> None:
    found, _ = queue()
    found.add([A, B, A])
    assert [await found.take(), await found.take(), len(found)] == [A, B, 2]


async def test_what_changes_while_it_is_worked_on_is_worked_on_again_and_not_at_once() -> None:
    found, _ = queue()
    found.add([A])
    await found.take()
    found.add([A])
    found.add([B])
    assert await found.take() == B
    found.done(A)
    assert await found.take() == A


async def test_what_failed_waits_longer_each_time() -> None:
    found, timers = queue()
    found.add([A])
    for _ in range(3):
        await found.take()
        found.failed(A)
        found.add([A])
        assert (len(found), found.failing) == (1, 1)
        timers.set[-1][1]()
    assert [delay for delay, _ in timers.set] == [0.1, 0.2, 0.4]
    await found.take()
    found.done(A)
    assert (len(found), found.failing) == (0, 0)


async def failed_often(found: Queue, timers: Timers, times: int = 8) -> float:
    """The delay of the last of so many failures in a row."""
    found.add([A])
    delay = 0.0
    for number in range(times):
        await found.take()
        delay = found.failed(A)
        while number < times - 1 and not found._due:
            timers.set[-1][1]()
    return delay


async def test_what_has_failed_often_waits_long_and_a_change_shortens_that_to_a_second() -> None:
    for early in (True, False):
        found, timers = queue()
        assert await failed_often(found, timers) == 12.8
        timers.set[:] = timers.set[-1:]
        if early:
            found.add([A])
            timers.set[0][1]()
        else:
            timers.set[0][1]()
            assert timers.set[1][0] == 11.8
            found.add([A])
            assert timers.cancelled == 1
        assert timers.set[0][0] == 1.0
        assert await found.take() == A
        assert found.failed(A) == 25.6


async def test_what_has_changed_while_it_failed_is_tried_again_after_a_second() -> None:
    found, timers = queue()
    await failed_often(found, timers)
    while not found._due:
        timers.set[-1][1]()
    await found.take()
    found.add([A])
    found.failed(A)
    timers.set[-1][1]()
    assert (timers.set[-1][0], await found.take()) == (1.0, A)


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    found, timers = queue()
    found.add([A])
    await found.take()
    assert found.failed(A, at_least=5.0) == 5.0
    found.add([A])
    assert [delay for delay, _ in timers.set] == [5.0]
    found.close()
    assert timers.cancelled == 1


async def test_taking_waits_for_work() -> None:
    found, _ = queue()
    taking = asyncio.create_task(found.take())
    await asyncio.sleep(0)
    found.add([B])
    assert await taking == B
