"""When new revisions are offered to the streams: in rounds, so that what they cost stays within a share of one core.

The first revision after a quiet time is offered at once. While a round still costs, the next one waits until the time
since its start is as long as its CPU time divided by SHARE, and LONGEST at most; then all streams get all revisions
that came meanwhile in one merged Delta, whose bytes they share. Few streams are never held up noticeably.

CPU time is the whole process's, so it has in it what others make the process do: a flood of messages, a storm of
Hellos, a long list of the API server. No more is counted than a round with so many streams may cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from controlplane.log import Log
from controlplane.wakers import Wakers

SHARE = 0.5  # of one core
LONGEST = 1.0  # seconds between two rounds, whatever they cost
# CPU seconds that a round costs at most: whatever it has, and for each stream, which gets a Delta and sends an Ack.
OF_ALL, OF_EACH = 0.01, 0.0003


class Pace:
    """Wakes the streams for each round. `spent`: CPU seconds of this process so far; for tests."""

    def __init__(self, log: Log, *, spent: Callable[[], float] = time.process_time) -> None:
        self.rounds = 0
        self._log, self._spent = log, spent
        self._wakers = Wakers()
        self._timer: asyncio.TimerHandle | None = None
        self._since, self._before = float("-inf"), 0.0  # monotonic and CPU seconds at the last round
        self._epoch = log.epoch

    @property
    def streams(self) -> int:
        """How many are woken in a round."""
        return len(self._wakers)

    def waking(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Calls `wake` in each round while the context is open."""
        return self._wakers.waking(wake)

    @contextmanager
    def pacing(self, told: Callable[[Callable[[], None]], AbstractContextManager[None]]) -> Iterator[None]:
        """While the context is open, the log offers revisions in rounds. `told` has `news` called for each."""
        self._log.paced = True
        with told(self.news):
            try:
                yield
            finally:
                self._log.paced = False
                self._round()

    def news(self) -> None:
        """There is a new revision, or a new history, which ends the streams and waits for nothing."""
        if self._log.epoch != self._epoch:
            self._round()
        elif self._timer is None:
            self._look()

    def _look(self) -> None:
        """Begins a round, or looks again when what is known of the last one's cost allows it."""
        self._timer = None
        loop = asyncio.get_running_loop()
        cost = min(self._spent() - self._before, OF_ALL + OF_EACH * len(self._wakers))
        at = self._since + min(LONGEST, cost / SHARE)
        if loop.time() >= at:
            self._round()
        else:
            self._timer = loop.call_at(at, self._look)

    def _round(self) -> None:
        self._end_wait()
        self._since, self._before = time.monotonic(), self._spent()
        self._epoch = self._log.epoch
        self._log.offer()
        self.rounds += 1
        self._wakers.wake()

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
