"""What a node has acknowledged, by the log of revisions: the form before the first later change is the form of then.

The log is a ring; earlier forms are kept while there is room. Where they no longer reach back so far, what has changed
since is known, and not what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from controlplane.inspection.here import Here
from deltaplane.model import EndpointSlice, Kind, Object, ObjectKey, Service


class Held(Struct, frozen=True):
    """A Service and its slices as a node has them. `changed`: those of them that have changed since.

    `unknown`: those whose form of then is not kept; they are as they are now.
    """

    service: Service | None
    slices: tuple[EndpointSlice, ...]
    changed: tuple[ObjectKey, ...] = ()
    unknown: tuple[ObjectKey, ...] = ()


class Past:
    """The objects as they were at a revision. `kept`: the log knows all that has changed since."""

    def __init__(self, here: Here, rev: int) -> None:
        log = here.cluster.log
        self.rev, self.kept, self._here = rev, log.earlier.tail <= rev <= log.head, here
        self._before: dict[ObjectKey, Object | None] = {}
        for key, before in log.earlier.since(rev) if self.kept else ():
            self._before.setdefault(key, before)
        for batch in log.between(max(rev, log.tail), log.head) if self.kept else ():
            for change in batch.changes:
                self._before.setdefault(change.key, change.before)
        self.changed = dict.fromkeys(self._before if self.kept else here.cluster.lineage.since(rev))

    def at(self, key: ObjectKey) -> Object | None:
        """The object then; as it is now where that is not kept."""
        return self._before[key] if key in self._before else self._here.cluster.store.get(key)

    def differs(self, key: ObjectKey) -> bool:
        """Whether the object is another one now; where its form of then is not kept, whether it has changed."""
        if key not in self.changed:
            return False
        return not self.kept or self._before[key] != self._here.cluster.store.get(key)

    def services(self) -> dict[ObjectKey, None]:
        """The Services that have changed since, themselves or by a slice."""
        found: dict[ObjectKey, None] = {}
        for key in self.changed:
            if key.kind is Kind.SERVICE:
                found[key] = None
            elif key.kind is Kind.ENDPOINT_SLICE:
                found.update(dict.fromkeys(self._owners(key)))
        return found

    def _owners(self, key: ObjectKey) -> Iterator[ObjectKey]:
        for piece in (self.at(key), self._here.cluster.store.get(key)):
            if isinstance(piece, EndpointSlice):
                yield ObjectKey(Kind.SERVICE, piece.namespace, piece.service)

    def held(self, key: ObjectKey) -> Held:
        """A Service then."""
        service, pieces = self.at(key), list(self._pieces(key))
        found = (self.at(each) for each in pieces)
        slices = [each for each in found if isinstance(each, EndpointSlice) and each.service == key.name]
        slices.sort(key=lambda each: each.name)
        changed = tuple(each for each in (key, *pieces) if self.differs(each))
        service = service if isinstance(service, Service) else None
        return Held(service, tuple(slices), changed, () if self.kept else changed)

    def _pieces(self, key: ObjectKey) -> Iterable[ObjectKey]:
        """Its slices of now, and those that were its then."""
        found = dict.fromkeys(each.key for each in self._here.slices_of(key.namespace, key.name))
        found.update(dict.fromkeys(each for each in self.changed if self._was_of(each, key)))
        return found

    def _was_of(self, piece: ObjectKey, key: ObjectKey) -> bool:
        """Whether a slice that has changed was the Service's; of one that is gone and not kept, its name says so."""
        if piece.kind is not Kind.ENDPOINT_SLICE or piece.namespace != key.namespace:
            return False
        then = self.at(piece)
        if then is None and not self.kept:
            return piece.name.startswith(f"{key.name}-")
        return isinstance(then, EndpointSlice) and then.service == key.name
