"""Objects as they were before changes that the log's ring no longer has: for answers about nodes that are far behind.

`controlplane.log` passes in each batch that leaves the ring. The oldest forms are let go of, so that memory is bounded,
however large the cluster and however fast it changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from deltaplane.model import EndpointSlice, Object, ObjectKey

MOST = 20_000  # endpoints, some 8 MB; any other object counts as one


class Earlier:
    """`tail`: the lowest revision after which every change is known here, up to the ring's."""

    def __init__(self, most: int = MOST) -> None:
        self.tail = 0
        self._most, self._size = most, 0
        self._forms: deque[tuple[int, ObjectKey, Object | None]] = deque()

    def take(self, rev: int, forms: Iterable[tuple[ObjectKey, Object | None]]) -> None:
        """What was there before the changes of a revision (None: nothing); revisions come in order."""
        for key, before in forms:
            self._forms.append((rev, key, before))
            self._size += _weight(before)
        while self._size > self._most:
            self.tail, _, before = self._forms.popleft()
            self._size -= _weight(before)

    def clear(self, tail: int) -> None:
        """Nothing from before this revision is known."""
        self.tail, self._size = tail, 0
        self._forms.clear()

    def since(self, rev: int) -> Iterator[tuple[ObjectKey, Object | None]]:
        """What was there before each change after a revision, the earliest first."""
        return ((key, before) for at, key, before in self._forms if at > rev)


def _weight(thing: Object | None) -> int:
    return 1 + (len(thing.endpoints) if isinstance(thing, EndpointSlice) else 0)
