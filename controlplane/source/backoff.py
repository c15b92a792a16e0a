"""How long to wait before trying again: full jitter, doubling, forgotten in quiet times; or what a server asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

PATIENCE = 30.0  # seconds: the longest that a server can ask for; a maintenance page asks for hours


class Backoff:
    """Delays in seconds. Full jitter spreads the reconnects of many watchers after one API server restart."""

    def __init__(
        self,
        base: float = 0.2,
        cap: float = 5.0,
        reset_after: float = 60.0,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base
        self._cap = cap
        self._reset_after = reset_after
        self._random = random or Random()
        self._clock = clock
        self._failures = 0
        self._last = clock()

    def next(self) -> float:
        """The delay after one more failure: uniform between 0 and base * 2^failures, at most cap."""
        now = self._clock()
        if now - self._last > self._reset_after:
            self._failures = 0
        self._last = now
        ceiling = min(self._cap, self._base * 2 ** min(self._failures, 32))
        self._failures += 1
        return self._random.uniform(0, ceiling)


def patience(header: str, details: int | None, now: datetime) -> float:
    """The seconds a server asks for, from 0 to `PATIENCE`.

    `header` is Retry-After (RFC 9110, 10.2.3: seconds or a date), `details` is retryAfterSeconds of its Status, which
    counts where the header says nothing that can be read. `now` has a time zone.
    """
    seconds = _seconds(header.strip(), now)
    if seconds is None:
        seconds = details or 0
    return float(min(max(seconds, 0), PATIENCE))


def _seconds(header: str, now: datetime) -> float | None:
    if header.isascii() and header.isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
