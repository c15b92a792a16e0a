"""What all listeners of an agent share: the loop, the settings, the pipes, and how many connections there may be.

Listeners that find it full stop accepting, so that further connections wait in the kernel's queues, and go on when one
ends. Runs in the proxy's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from nodeagent.dataplane.userspace.pipes import Pipes
from nodeagent.dataplane.userspace.settings import Settings

RESERVE = 256  # files for the rest of the agent, and pipes in stock
_PAUSE = 0.1  # seconds until accepting is tried again where this process may open no more files


class Guest(Protocol):
    """A client's connection, on its way to an endpoint or established."""

    @property
    def held(self) -> int:
        """Bytes that wait in this process."""

    def abort(self) -> None:
        """Ends it with a reset."""


class Waiting(Protocol):
    """A listener that stopped accepting."""

    def listen(self) -> None:
        """Accepts again."""


class Room:
    """`failed` counts clients that no endpoint could be found for, `entered` all connections since the start."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self.loop, self.settings = loop, settings
        self.pipes = Pipes()
        self.guests: set[Guest] = set()
        self.waiting: set[Waiting] = set()
        self.failed = self.entered = 0
        self.files = 1 << 20  # as many as this process may have open
        self.sockets: Callable[[], int] = lambda: 0  # those of listeners and UDP clients

    @property
    def free(self) -> bool:
        """Whether there may be one more connection."""
        return len(self.guests) < self.settings.max_connections and self.spare >= 2

    @property
    def spare(self) -> int:
        """Files that may still be opened, but for a reserve."""
        return self.files - RESERVE - self.sockets() - 2 * (len(self.guests) + self.pipes.lent)

    @property
    def held(self) -> int:
        return sum(guest.held for guest in self.guests)

    def enter(self, guest: Guest) -> None:
        self.entered += 1
        self.guests.add(guest)

    def leave(self, guest: Guest) -> None:
        """One less; whoever waits for room accepts again."""
        self.guests.discard(guest)
        if self.waiting:
            self.resume()

    def replace(self, guest: Guest, successor: Guest) -> None:
        self.guests.discard(guest)
        self.guests.add(successor)

    def wait(self, listener: Waiting) -> None:
        self.waiting.add(listener)

    def try_again_later(self) -> None:
        self.loop.call_later(_PAUSE, self.resume)

    def resume(self) -> None:
        waiting, self.waiting = self.waiting, set()
        for listener in waiting:
            listener.listen()

    def close(self) -> None:
        """Ends every connection."""
        self.waiting.clear()
        for guest in list(self.guests):
            guest.abort()
        self.pipes.close()
