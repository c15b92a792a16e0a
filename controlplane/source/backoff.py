"""How long to wait before trying again: full jitter, doubling, forgotten after a time without failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random


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
