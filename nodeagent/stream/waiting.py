"""The pause before the next attempt at a stream. It ends early when this agent's own files have other content.

A replica that refused may not be asked again for a minute, but an operator who has mended the token, certificate, key
or CA bundle is not to wait for that. Each content ends one pause only, and a file that is rewritten again and again
none sooner than `APART` after the last. Used by `client`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from deltaplane.logs import event

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks at the files
APART = 5.0  # seconds between two attempts that files have brought forward

Shown = Mapping[str, bytes | str]
"""The content of what an agent shows and believes, by flag. Empty: it is in plain text, or cannot be used now."""


class Wait:
    """`shown` says what the next attempt would use; `early` counts pauses that ended early."""

    def __init__(
        self,
        shown: Callable[[], Shown],
        early: Callable[[], None] = lambda: None,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shown, self._early, self._sleep, self._clock = shown, early, sleep, clock
        self._used: Shown = {}
        self._next_early = clock()

    def attempt(self) -> None:
        """An attempt begins, with what the files say now."""
        self._used = self._shown()

    async def over(self, seconds: float) -> None:
        """Returns after so many seconds, or once the files say something else than at the last attempt."""
        until = self._clock() + seconds
        while True:
            await self._sleep(max(0.0, min(LOOK, until - self._clock())))
            now = self._clock()
            if now >= until:
                return
            if now >= self._next_early and (changed := self._changed()):
                self._next_early = now + APART
                self._early()
                event(log, logging.INFO, "own files changed; connecting at once", flags=",".join(changed))
                return

    def _changed(self) -> list[str]:
        return [flag for flag, content in self._shown().items() if self._used.get(flag) != content]
