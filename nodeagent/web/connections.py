"""Which connections to the agent's HTTP addresses stay when there are too many: the oldest of who has most give way.

Anybody may connect to a health check node port. A probe is answered within milliseconds, so the newest connection is
always taken, and whoever keeps connections open loses the oldest of its own. All addresses of a process share the pool,
since they share its files. Pure.
"""

from __future__ import annotations

import resource
from collections.abc import Hashable
from typing import Generic, TypeVar

CONNECTIONS = 256  # of a process at a time
OF_ONE_CLIENT = 16  # of one address, to one listener
C = TypeVar("C", bound=Hashable)
Client = tuple[object, str]  # listener, address


def most() -> int:
    """How many connections a process may have here: a quarter of its files at most."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, files // 4))


class Connections(Generic[C]):
    """The open connections by client, each client's oldest first. `ended`: how many had to give way."""

    def __init__(self, most: int = CONNECTIONS, of_one_client: int = OF_ONE_CLIENT) -> None:
        self.ended = 0
        self._most, self._of_one_client = most, of_one_client
        self._held: dict[Client, dict[C, None]] = {}
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def enter(self, client: Client, connection: C) -> tuple[Client, C] | None:
        """Takes a connection. Returns the one that gives way to it, which is no longer counted."""
        self._held.setdefault(client, {})[connection] = None
        self._all += 1
        if len(self._held[client]) > self._of_one_client:
            return self._give_way(client)
        if self._all > self._most:
            return self._give_way(max(self._held, key=lambda each: len(self._held[each])))
        return None

    def _give_way(self, client: Client) -> tuple[Client, C]:
        oldest = next(iter(self._held[client]))
        self.leave(client, oldest)
        self.ended += 1
        return client, oldest

    def leave(self, client: Client, connection: C) -> None:
        """The connection has ended; no effect if it gave way before."""
        held = self._held.get(client, {})
        if connection not in held:
            return
        del held[connection]
        self._all -= 1
        if not held:
            del self._held[client]
