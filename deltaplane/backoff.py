"""How long to wait before the next attempt: doubled with each failure, up to a limit, with full jitter where it helps.

Used by both programs wherever something is tried again. Pure: whoever waits gives the time and the random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from msgspec import Struct

Jitter = Callable[[], float]
"""A factor from 0 to 1 for each delay; `random.random` spreads what many do after one fault (full jitter)."""


def steady() -> float:
    """The `Jitter` of one who waits alone: the whole delay."""
    return 1.0


class Backoff(Struct, frozen=True):
    """Delays in seconds: `first` after the first failure, then doubled with each, at most `last`."""

    first: float
    last: float

    def delay(self, attempt: int, jitter: Jitter = steady) -> float:
        """The delay before attempt `attempt` is repeated; attempts count from 0."""
        return jitter() * min(self.last, self.first * 2.0 ** min(attempt, 32))


class Retries:
    """Counts the failures in a row of one who tries again. `quiet`: seconds without a failure that end the row."""

    def __init__(self, backoff: Backoff, jitter: Jitter = steady, quiet: float = inf) -> None:
        self.failures = 0
        self._backoff, self._jitter, self._quiet = backoff, jitter, quiet
        self._last = -inf

    def failed(self, now: float = 0.0) -> float:
        """The delay in seconds after one more failure, at `now` (monotonic seconds; of no account without `quiet`)."""
        if now - self._last > self._quiet:
            self.failures = 0
        self._last = now
        delay = self._backoff.delay(self.failures, self._jitter)
        self.failures += 1
        return delay

    def succeeded(self) -> None:
        """The row of failures is over: the next delay is the first again."""
        self.failures = 0
