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


async def test_what_failed_waits_longer_each_time_and_a_change_does_not_shorten_it() -> None:
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


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    found, timers = queue()
    found.add([A])
    await found.take()
    assert found.failed(A, at_least=5.0) == 5.0
    found.close()
    assert timers.cancelled == 1


async def test_taking_waits_for_work() -> None:
    found, _ = queue()
    taking = asyncio.create_task(found.take())
    await asyncio.sleep(0)
    found.add([B])
    assert await taking == B
