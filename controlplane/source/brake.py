"""The safety brake (S7): it holds a list that lacks most of the known objects, until lists have agreed for a while.

Otherwise an API server that answers with an empty list after a fault (its cache is not filled, its store was restored
from nothing) would remove every Service from every node. The brake does not concern DELETED events and the first list.
Pure.
"""

from __future__ import annotations

from controlplane.source.resource import ApiError

MOST = 10  # fewer objects than this may go at once without a doubt
RELIST_SECONDS = 10.0
LISTS = 3  # in a row


class Doubtful(ApiError):
    """A list that the brake holds; the text says what it lacks."""


class Brake:
    """The brake of one collection. `seconds`: for how long its lists must agree that most objects are gone."""

    def __init__(self, seconds: float) -> None:
        self.lists = 0  # lists in a row that lack most objects
        self._seconds = seconds
        self._since = 0.0

    def holds(self, known: int, gone: int, now: float) -> bool:
        """Whether a list without `gone` of the `known` objects is to be held; `now` in seconds."""
        if gone < MOST or gone * 2 <= known:
            self.lists = 0
            return False
        if self.lists == 0:
            self._since = now
        self.lists += 1
        return self.lists < LISTS or now - self._since < self._seconds
