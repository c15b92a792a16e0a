"""Who is woken when something is new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Wakers:
    """Callbacks, each for as long as its context is open."""

    def __init__(self) -> None:
        self._all: set[Callable[[], None]] = set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Calls `wake` whenever something is new while the context is open."""
        self._all.add(wake)
        try:
            yield
        finally:
            self._all.discard(wake)

    def wake(self) -> None:
        """Something is new."""
        for wake in self._all:
            wake()
