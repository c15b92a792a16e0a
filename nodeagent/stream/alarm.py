"""A time to wait for that may come sooner than was thought; moving it wakes nobody. Called by `client`."""

from __future__ import annotations

import asyncio


class Alarm:
    """Times are those of the running loop: `time.monotonic` seconds."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it was to ring, the last time it rang

    def by(self, when: float) -> None:
        """It rings then at the latest."""
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
        """Waits until it rings, or has rung since the last wait. Returns when it was to ring."""
        await self._rung.wait()
        self._rung.clear()
        return self._due

    def close(self) -> None:
        """It does not ring any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
