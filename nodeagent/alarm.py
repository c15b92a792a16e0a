"""A time to wait for that may come sooner than was thought; moving it wakes nobody. Called by `nodeagent.client`."""

from __future__ import annotations

import asyncio


class Alarm:
    """Times are those of the running loop: `time.monotonic` seconds."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def by(self, when: float) -> None:
        """It rings then at the latest."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._rung.set()

    async def rings(self) -> None:
        """Waits until it rings, or has rung since the last wait."""
        await self._rung.wait()
        self._rung.clear()
