"""Who is asked next: round robin over a listener's endpoints, session affinity, and who was found dead lately. Pure.

Every listener has a `Balancer`; those of one service port share its `Clients`. Time is an argument, in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection

from deltaplane.forwarding import Target


class Clients:
    """Which endpoint each client of a service port was sent to last (H1 to H3). `limit`: how many are remembered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last: OrderedDict[str, tuple[Target, float]] = OrderedDict()  # the one that came last at the end

    def __len__(self) -> int:
        return len(self._last)

    def recall(self, client: str, now: float) -> Target | None:
        """Where this client was sent, unless that was too long ago."""
        found = self._last.get(client)
        return found[0] if found is not None and found[1] > now else None

    def remember(self, client: str, target: Target, until: float) -> None:
        """Binds a client to an endpoint; of too many, the one away for longest is forgotten."""
        self._last[client] = target, until
        self._last.move_to_end(client)
        if len(self._last) > self._limit:
            self._last.popitem(last=False)


class Balancer:
    """The endpoints of one listener. `clients` None: no affinity."""

    def __init__(self, suspect_seconds: float = 2.0) -> None:
        self.targets: tuple[Target, ...] = ()
        self.affinity = 0  # seconds
        self.clients: Clients | None = None
        self._next = 0
        self._suspect_seconds = suspect_seconds
        self._suspects: dict[Target, float] = {}  # endpoints that failed, and until when they are asked last

    def set(self, targets: tuple[Target, ...], affinity: int, clients: Clients | None) -> None:
        """Takes another list, sorted; whose turn it is stays, and what is known of endpoints that stay."""
        if targets != self.targets:
            self._next = bisect_left(targets, self.targets[self._next]) % max(1, len(targets)) if self.targets else 0
            self._suspects = {target: until for target, until in self._suspects.items() if target in targets}
        self.targets, self.affinity, self.clients = targets, affinity, clients

    def choose(self, client: str, tried: Collection[Target], now: float) -> Target | None:
        """The endpoint to try next for a client, none of `tried`; None when all were."""
        if self.clients is not None and not tried:
            bound = self.clients.recall(client, now)
            if bound is not None and bound in self.targets:
                return bound
        if self._suspects:
            trusted = self._turn(lambda target: target not in tried and self._suspects.get(target, 0.0) <= now)
            if trusted is not None:
                return trusted
        return self._turn(lambda target: target not in tried)

    def _turn(self, fit: Callable[[Target], bool]) -> Target | None:
        """The next in turn that fits; its successor's turn is next."""
        targets, first = self.targets, self._next
        for number in range(first, first + len(targets)):
            target = targets[number % len(targets)]
            if fit(target):
                self._next = (number + 1) % len(targets)
                return target
        return None

    def worked(self, client: str, target: Target, now: float) -> None:
        """An endpoint took a client's connection."""
        self._suspects.pop(target, None)
        if self.clients is not None:
            self.clients.remember(client, target, now + self.affinity)

    def failed(self, target: Target, now: float) -> None:
        """An endpoint did not."""
        if target in self.targets:
            self._suspects[target] = now + self._suspect_seconds
