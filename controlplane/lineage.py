"""At which revision each object changed last, for those that have changed since this replica has the whole state.

`controlplane.cluster` passes in every batch; inspection reads it. What is gone is remembered for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from controlplane.batch import Batch
from deltaplane.model import ObjectKey

GONE = 10_000  # objects that are gone and still remembered


class Stamp(Struct, frozen=True, gc=False):
    """When an object changed last. `version`: the resourceVersion that changed it."""

    rev: int = 0  # 0: not since the whole state is known
    unix_nano: int = 0
    version: str = ""


_NEVER = Stamp()


class Lineage:
    """`of` and `gone` describe the head. Each batch costs what it changes."""

    def __init__(self) -> None:
        self._changed: dict[ObjectKey, Stamp] = {}
        self._gone: dict[ObjectKey, Stamp] = {}  # the earliest first

    def of(self, key: ObjectKey) -> Stamp:
        """Of an object that is there."""
        return self._changed.get(key, _NEVER)

    def gone(self, key: ObjectKey) -> Stamp | None:
        """When an object went that is not there; None: it never was, or that is too long ago."""
        return self._gone.get(key)

    def stamps(self) -> Iterator[tuple[ObjectKey, Stamp, bool]]:
        """The last change of each object, in no particular order, and whether it is still there."""
        yield from ((key, stamp, True) for key, stamp in self._changed.items())
        yield from ((key, stamp, False) for key, stamp in self._gone.items())

    def since(self, rev: int) -> Iterator[ObjectKey]:
        """The objects that have changed or gone after this revision; looks at all that ever did."""
        yield from (key for key, stamp, _ in self.stamps() if stamp.rev > rev)

    def renew(self) -> None:
        """A new history begins, in which nothing has changed yet."""
        self._changed.clear()
        self._gone.clear()

    def take(self, batches: Iterable[Batch]) -> None:
        """The head has moved over these."""
        for batch in batches:
            for change in batch.changes:
                stamp = Stamp(batch.rev, batch.emitted_unix_nano, change.origin.resource_version)
                if change.object is None:
                    self._changed.pop(change.key, None)
                    self._gone[change.key] = stamp
                else:
                    self._gone.pop(change.key, None)
                    self._changed[change.key] = stamp
        while len(self._gone) > GONE:
            del self._gone[next(iter(self._gone))]
