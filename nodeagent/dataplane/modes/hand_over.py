"""The end of an agent that carries connections itself: it goes on until nothing leads to it any more, for a while.

The kernel modes need none of this: their rules stay and work without the agent. Called by `nodeagent.app` once the
stream is closed, so that a successor, in the same mode or another, takes over while clients are still served.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, runtime_checkable

PAUSE = 0.1  # seconds between two looks


@runtime_checkable
class CarriesConnections(Protocol):
    """A dataplane that new connections still come to after the agent was asked to end."""

    def superseded(self) -> bool:
        """Whether nothing in the kernel leads to this process any more, and no connection goes through it."""


async def finish(dataplane: object, seconds: float, hurry: asyncio.Event) -> bool:
    """Waits until the dataplane is superseded; False where that was not so after `seconds`, or `hurry` was set."""
    if not isinstance(dataplane, CarriesConnections):
        return True
    until = time.monotonic() + seconds
    while not dataplane.superseded():
        if time.monotonic() >= until or hurry.is_set():
            return False
        try:
            await asyncio.wait_for(hurry.wait(), PAUSE)
        except TimeoutError:
            continue
    return True
