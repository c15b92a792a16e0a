"""A timer that can be moved to an earlier time while a task waits for it. Called by `call`."""

from __future__ import annotations

import asyncio


class Alarm:
    """Times are `time.monotonic` seconds, as the event loop counts them."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # the time that it was set to when it last rang

    def by(self, when: float) -> None:
        """Rings at `when`, or earlier if an earlier time is set."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        if self._timer is not None:
            self._due, self._timer = self._timer.when(), None
        self._rung.set()

    async def rings(self) -> float:
        """Waits until it rings; returns at once if it rang since the last wait. Returns the time that it was set to."""
        await self._rung.wait()
        self._rung.clear()
        return self._due

    def close(self) -> None:
        """Cancels the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
