"""What all listeners of an agent share: the loop, the settings, the pipes, and how many connections there may be.

Listeners that find it full stop accepting, so that further connections wait in the kernel's queues, and go on when one
ends. A client (an address) may have as many as there are left: one alone gets half of them, and its further connections
are reset, so that it fills neither the pool nor the queues. Runs in the proxy's loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from deltaplane.logs import event
from deltaplane.once import Once
from deltaplane.shares import Shares
from nodeagent.dataplane.userspace.pipes import Pipes
from nodeagent.dataplane.userspace.settings import Settings

log = logging.getLogger(__name__)

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


class ConnectionLimits:
    """`failed` counts clients that no endpoint could be found for, `entered` all connections since the start.

    `crowded` counts connections that were reset because their client had its share.
    `files`: as many as this process may have open; `sockets` counts those of listeners and UDP clients.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settings: Settings, files: int, sockets: Callable[[], int]
    ) -> None:
        self.loop, self.settings = loop, settings
        self.files, self.sockets = files, sockets
        self.pipes = Pipes()
        self.guests: dict[Guest, str] = {}  # with the client's address
        self._clients = Shares[str]()
        self._told = Once[str](256)  # clients that had their share
        self.waiting: set[Waiting] = set()
        self.failed = self.entered = self.crowded = 0

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

    def admits(self, client: str) -> bool:
        """Whether this client may have one more; what it may not is counted."""
        free = min(self.settings.max_connections - len(self.guests), self.spare // 2)
        if self._clients.fits(client, free):
            return True
        self.crowded += 1
        if self._told.note(client):
            held = self._clients.held(client)
            event(log, logging.WARNING, "a client has its share of connections", client=client, connections=held)
        return False

    def enter(self, guest: Guest, client: str) -> None:
        self.entered += 1
        self.guests[guest] = client
        self._clients.enter(client)

    def leave(self, guest: Guest) -> None:
        """One less; listeners that wait for a free connection accept again."""
        client = self.guests.pop(guest, None)
        if client is not None:
            self._clients.leave(client)
        if self.waiting:
            self.resume()

    def replace(self, guest: Guest, successor: Guest) -> None:
        self.guests[successor] = self.guests.pop(guest)

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
