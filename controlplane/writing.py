"""The writing side of one stream, without a task of its own. Created by `streams`, one for each stream.

A round wakes thousands of streams. Each of them as a task that sleeps would be a future, a timer and a turn of a task
for each message. Here one callback of the loop serves the writers that were woken, PORTION of them a turn, and a
message costs what gRPC's own write costs.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

PORTION = 128  # writers served in one turn of the loop: some milliseconds, in which nothing else runs
Write = Callable[[bytes], Coroutine[Any, Any, None]]


class Source(Protocol):
    """What a writer sends. Times are `time.monotonic` seconds."""

    def next(self, now: float) -> bytes | None:
        """The next message; None: there is nothing to send now."""

    @property
    def over(self) -> bool:
        """Whether nothing comes after what `next` has."""

    def deadline(self) -> float:
        """When to ask `next` again even if nothing happens."""


class Turns:
    """The writers that were woken, in order. One for all streams."""

    def __init__(self) -> None:
        self._woken: deque[Writer] = deque()
        self._due = False

    def add(self, writer: Writer) -> None:
        """The writer looks soon."""
        self._woken.append(writer)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        woken = self._woken
        for _ in range(min(PORTION, len(woken))):
            woken.popleft().look()
        self._due = bool(woken)
        if woken:
            asyncio.get_running_loop().call_soon(self._serve)


class Writer:
    """Sends what `source` has when it is woken, and when the source's time has come. `ended` is awaited by the stream.

    Any number of wake-ups before it looks are one. Its timer stays where it is when the time moves to later: a stream
    that sends all the time sets none.
    """

    __slots__ = (
        "_coroutine", "_limit", "_loop", "_source", "_timer", "_turns", "_waits_for", "_when", "_woken", "_write",
        "ended",
    )  # fmt: skip

    def __init__(self, source: Source, write: Write, turns: Turns, limit: float) -> None:
        """`limit`: seconds for one write."""
        self._source, self._write, self._turns, self._limit = source, write, turns, limit
        self._loop = asyncio.get_running_loop()
        self._coroutine: Coroutine[Any, Any, None] | None = None  # the write that is under way
        self._waits_for: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0
        self._woken = False
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the source is over; raises TimeoutError where a write takes too long, or what a write raised."""

    def wake(self) -> None:
        """There may be something to send. While it writes it is not needed: it looks again afterwards."""
        if not self._woken and self._coroutine is None and not self.ended.done():
            self._woken = True
            self._turns.add(self)

    def look(self) -> None:
        """Starts the next write, or sleeps."""
        self._woken = False
        if self._coroutine is not None or self.ended.done():
            return
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001 - raised again by who awaits `ended`
            self._end(error)

    def _go_on(self) -> None:
        now = time.monotonic()
        while True:
            message = self._source.next(now)
            if message is None:
                break
            self._sleep(now + self._limit)
            if not self._advance(self._write(message)):
                return
        if self._source.over:
            self._end(None)
        else:
            self._sleep(self._source.deadline())

    def _advance(self, write: Coroutine[Any, Any, None]) -> bool:
        """Runs the write until it waits for something, which calls `_written`; whether it has ended.

        This is what a task does with a coroutine, which gives the future that it waits for (PEP 3156, Task.__step).
        """
        self._coroutine = write
        try:
            self._waits_for = waits_for = write.send(None)
        except StopIteration:
            self._coroutine = self._waits_for = None
            return True
        waits_for._asyncio_future_blocking = False  # noqa: SLF001 - the mark is for its taker to remove
        waits_for.add_done_callback(self._written)
        return False

    def _written(self, _: asyncio.Future[None]) -> None:
        write = self._coroutine
        if write is None or self.ended.done():
            return
        try:
            if self._advance(write):
                self._go_on()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raised again by who awaits `ended`
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    # ------------------------------------------------------------ time

    def _sleep(self, when: float) -> None:
        self._when = when
        if self._timer is None or self._timer.when() > when:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() < self._when:
            self._arm()
        elif self._coroutine is None:
            self.wake()
        else:
            self._end(TimeoutError())

    def close(self) -> None:
        """Ends a write that is under way, sets no timer any more, and lets go of the source."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.ended.cancel()
        if self._coroutine is not None:
            if self._waits_for is not None:
                self._waits_for.cancel()  # else its error would be nobody's
            self._coroutine.close()
            self._coroutine = self._waits_for = None
        del self._source, self._write
