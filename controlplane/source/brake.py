"""The safety brake (S7): a list that lacks most of what is known is held until the server has said so for a while.

An API server that answers with an empty list after a fault (a cache that is not filled, a store restored from nothing)
would otherwise take every Service from every node. What is deleted while it is watched, and what the first list lacks,
is no concern of it. Called by `reflector`; it reads no clock.
"""

from __future__ import annotations

from controlplane.source.api import ApiError

MOST = 10  # fewer objects than this may go at once
RELIST_SECONDS = 10.0
LISTS = 3  # in a row


class Doubtful(ApiError):
    """A list that is not taken as it is; the text says what it lacks."""


class Brake:
    """For one collection. `seconds` is for how long its lists must agree that most objects are gone."""

    def __init__(self, seconds: float) -> None:
        self.lists = 0  # in a row that were, or would have been, held
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
