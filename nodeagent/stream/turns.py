"""A lock that urgent tasks get before the others that wait for it. Called by `beside`."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """For the tasks of one event loop. Waiting tasks get it in the order they came, urgent tasks first."""

    def __init__(self) -> None:
        self.taken = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def take(self, *, urgent: bool = False) -> None:
        """Takes the lock; waits while another task has it, and does not suspend otherwise. `leave` releases it."""
        if not self.taken:
            self.taken = True
            return
        waiting = self._urgent if urgent else self._others
        given = asyncio.get_running_loop().create_future()
        waiting.append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():  # it got the lock, and will not use it
                self.leave()
            raise

    def leave(self) -> None:
        """Hands the lock to the next task that waits, without those that were cancelled."""
        for waiting in (self._urgent, self._others):
            while waiting:
                given = waiting.popleft()
                if not given.done():
                    given.set_result(None)
                    return
        self.taken = False
