"""A limit for something that happens often and is nearly always short, without a timer for each time. Called by `call`.

One timer stays armed and is not moved: when it rings it looks whether what runs now has run too long, and otherwise
rings again when that would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Bound:
    """`over` is called when more than `seconds` pass between `begin` and `end`; once for each `begin`.

    One thing at a time; used on the event loop.
    """

    __slots__ = ("_loop", "_over", "_seconds", "_timer", "_until")

    def __init__(self, seconds: float, over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds, self._over = seconds, over
        self._until = inf  # of what runs
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """It begins now."""
        self._until = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._ring)

    def end(self) -> None:
        """It has ended."""
        self._until = inf

    def _ring(self) -> None:
        self._timer = None
        if self._until is inf:
            return
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._ring)
            return
        self._until = inf
        self._over()

    def close(self) -> None:
        """Calls nothing any more."""
        self._until = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
