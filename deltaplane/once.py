"""What was said already, by key, so that a lasting fault is one line in the log, and its end is another.

    if said.note(server, reason):
        event(log, logging.WARNING, "not connected", server=server, reason=reason)
    ...
    if said.clear(server):
        event(log, logging.INFO, "connected again", server=server)

Used by both programs. Pure: it decides what is said, and says nothing itself.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Once(Generic[K]):
    """The last text of each key. `most`: keys that are kept; beyond these the key that came first is forgotten."""

    def __init__(self, most: int | None = None) -> None:
        self._texts: dict[K, str] = {}
        self._most = most

    def note(self, key: K, text: str = "") -> bool:
        """Takes what is to be said of the key; whether it is new: the key's first text, or another than its last."""
        if self._texts.get(key) == text:
            return False
        self._texts[key] = text
        if self._most is not None and len(self._texts) > self._most:
            del self._texts[next(iter(self._texts))]
        return True

    def clear(self, key: K) -> bool:
        """It is over; whether anything was said of the key. Its next text is new."""
        return self._texts.pop(key, None) is not None

    def retain(self, keys: Container[K]) -> list[K]:
        """Clears every key that is not among these, and returns it."""
        over = [key for key in self._texts if key not in keys]
        for key in over:
            del self._texts[key]
        return over

    def text(self, key: K) -> str:
        """What was said of the key last; empty where nothing was."""
        return self._texts.get(key, "")

    def __contains__(self, key: object) -> bool:
        return key in self._texts

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._texts))

    def __len__(self) -> int:
        return len(self._texts)
