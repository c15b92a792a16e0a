"""Shares that one client cannot take from others: of what there is so many of at once, and of what comes per second.

Used by both programs at the edges where clients come in. Pure; callers pass the time, in monotonic seconds. What is
kept is bounded, whatever clients invent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
MOST_KEYS = 16_384  # whose rates are remembered; beyond these, whoever was quiet for longest starts anew


class Shares(Generic[K]):
    """How many each client holds of a pool. `len` counts all of them.

    A client may hold as many as there are left: one client alone gets half of the pool, two get a third each, and
    whoever comes new still finds room.
    """

    def __init__(self) -> None:
        self._held: Counter[K] = Counter()
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def held(self, client: K) -> int:
        """How many this client holds."""
        return self._held[client]

    def fits(self, client: K, free: int) -> bool:
        """Whether the client may have one more. `free`: how many are left."""
        return self._held[client] < free

    def enter(self, client: K) -> None:
        """The client holds one more."""
        self._held[client] += 1
        self._all += 1

    def leave(self, client: K) -> None:
        """The client holds one less; nothing is kept of one that holds none."""
        self._all -= 1
        self._held[client] -= 1
        if self._held[client] <= 0:
            del self._held[client]


class Allowance:
    """So many a second, and so many at once after a pause. `per_second` may change."""

    def __init__(self, per_second: float, at_once: float) -> None:
        self.per_second = per_second
        self._at_once = at_once
        self._left, self._at = at_once, float("-inf")

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._at_once, self._left + (now - self._at) * self.per_second)
            self._at = now

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Takes the amount if it is there; whether it was."""
        self._fill(now)
        if self._left < amount:
            return False
        self._left -= amount
        return True

    def owe(self, now: float, amount: float = 1.0, most: float = inf) -> float:
        """Takes the amount in any case; for how many seconds the client has to wait for it, 0 if it was there.

        `most`: seconds; what would have to be waited for beyond them is forgiven.
        """
        self._fill(now)
        self._left = max(self._left - amount, -most * self.per_second)
        return max(0.0, -self._left / self.per_second)


class Rates(Generic[K]):
    """An allowance for each client. `most`: clients that are remembered."""

    def __init__(self, per_second: float, at_once: float, most: int = MOST_KEYS) -> None:
        self._per_second, self._at_once, self._most = per_second, at_once, most
        self._allowances: dict[K, Allowance] = {}  # the one that was quiet for longest first

    def __len__(self) -> int:
        return len(self._allowances)

    def take(self, client: K, now: float) -> bool:
        """Takes one from the client's allowance if it is there; whether it was."""
        return self._of(client).take(now)

    def owe(self, client: K, now: float, most: float) -> float:
        """Takes one in any case; for how many seconds the client has to wait for it, `most` at most."""
        return self._of(client).owe(now, most=most)

    def _of(self, client: K) -> Allowance:
        allowance = self._allowances.pop(client, None) or Allowance(self._per_second, self._at_once)
        self._allowances[client] = allowance
        if len(self._allowances) > self._most:
            del self._allowances[next(iter(self._allowances))]
        return allowance
