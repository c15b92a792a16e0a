"""Calls of the agent, one at a time: short ones on the event loop, those that may be long on a thread beside it.

The agent is synchronous, and committing one change takes less time than handing it to a thread. A whole state takes
seconds, and programs that a backend starts may take minutes: meanwhile the loop serves health, metrics and the stream.
Every call of the agent goes through `Beside`, so that two calls never run at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future as Answer
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from nodeagent.stream.turns import Turns

T = TypeVar("T")
Defect = Callable[[str, BaseException], None]  # name of the part, and what it raised

HEAVY_SECONDS = 0.02  # a message that took longer: the next one is not handled on the loop


def always() -> bool:
    """The `long` of a call that always may be long."""
    return True


def never() -> bool:
    """The `long` of a call that is short."""
    return False


async def nothing() -> None:
    """The `before` of a call that needs none."""


class Beside:
    """One for an agent, used from one loop. `defect` is told what a long call raised after its caller was cancelled.

    The thread starts with the first long call, in the network namespace of the calling thread. It is a daemon thread:
    the process can end while it runs.
    """

    def __init__(self, defect: Defect = lambda *_: None) -> None:
        self._defect = defect
        self._turns = Turns()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._heavy = False  # the last message took long, so the next one may
        self.busy = False  # a long call runs
        self._closed: bool | None = None  # None: calls may begin

    async def turn(
        self,
        call: Callable[[], T],
        *,
        long: Callable[[], bool] = never,
        before: Callable[[], Awaitable[None]] = nothing,
        message: bool = False,
    ) -> T:
        """Runs `call` when no other call runs; returns or raises what it does. `long` says then whether it is long.

        `before` is awaited before a long call begins. A `message` goes before all other calls that wait. When the
        caller is cancelled, a long call runs on, and no other call runs until its end.
        """
        await self._turns.take(urgent=message)
        handed = False
        try:
            if not (long() or (message and self._heavy)):
                return self._measured(call, message=message)
            await before()
            future = self._hand_over(partial(self._measured, call, message=message))
            handed = True
        finally:
            if not handed:
                self._turns.leave()
        return await future

    def now(self, call: Callable[[], object]) -> None:
        """Runs `call` at once, or not at all while another call runs: for a caller that is being cancelled."""
        if not self._turns.taken:
            call()

    def at_home(self, call: Callable[[], T]) -> T:
        """Runs `call` on the event loop's thread, whichever thread this is called from; returns when it is done.

        Raises what the call raises, and RuntimeError where the loop is closed.
        """
        if self._thread is None or self._loop is None or threading.current_thread() is not self._thread:
            return call()
        answer: Answer[T] = Answer()
        self._loop.call_soon_threadsafe(_answer, call, answer)
        return answer.result()

    async def close(self, within: float) -> bool:
        """Begins no further call. False if a long call still runs after `within` seconds; later it returns the same."""
        if self._closed is None:
            try:
                async with asyncio.timeout(within):
                    await self._turns.take(urgent=True)
            except TimeoutError:
                self._closed = False
            else:
                self._closed = True
                self._jobs.put(None)
        return self._closed

    def _measured(self, call: Callable[[], T], *, message: bool) -> T:
        began = time.monotonic()
        try:
            return call()
        finally:
            if message:
                self._heavy = time.monotonic() - began > HEAVY_SECONDS

    # ------------------------------------------------------------ the thread

    def _hand_over(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._loop is None or self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, args=(self._loop,), name="commits", daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = self._loop.create_future()
        self.busy = True
        self._jobs.put((call, future))
        return future

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            call, future = job
            try:
                done = partial(self._done, future, call())
            except BaseException as error:  # noqa: BLE001 - raised where the call is waited for
                done = partial(self._failed, future, error)
            with suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(done)

    def _done(self, future: asyncio.Future[T], result: T) -> None:
        if not future.done():
            future.set_result(result)
        self._free()

    def _failed(self, future: asyncio.Future[Any], error: BaseException) -> None:
        if future.done():
            self._defect("stream", error)
        else:
            future.set_exception(error)
        self._free()

    def _free(self) -> None:
        self.busy = False
        self._turns.leave()


def _answer(call: Callable[[], T], answer: Answer[T]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
        answer.set_exception(error)
