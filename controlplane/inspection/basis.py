"""What a node has acknowledged of some objects: the present where they have not changed since, else from the log.

The log is a ring: where an earlier form is no longer kept, the answer is of a newer state, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from controlplane.inspection.here import Here
from controlplane.session import Session
from controlplane.store import Change
from deltaplane.model import EndpointSlice, Kind, Object, ObjectKey, Service
from deltaplane.v1 import inspection_pb2


class Held(Struct, frozen=True):
    """A Service and its slices as a node has them. `newer`: what is of a later revision, because it is not known."""

    service: Service | None
    slices: tuple[EndpointSlice, ...]
    newer: tuple[str, ...] = ()


def held(here: Here, key: ObjectKey, rev: int) -> Held:
    """The Service named `key` as it was at this revision."""
    past = _Past(here, rev)
    service = past.at(key)
    found = (past.at(each) for each in past.slices_of(key))
    owner = key.namespace, key.name
    slices = [each for each in found if isinstance(each, EndpointSlice) and (each.namespace, each.service) == owner]
    slices.sort(key=lambda each: each.name)
    return Held(service if isinstance(service, Service) else None, tuple(slices), tuple(past.unknown))


class _Past:
    """Looks back from the head. `unknown`: objects whose form at the revision is no longer kept."""

    def __init__(self, here: Here, rev: int) -> None:
        self._here, self._rev = here, rev
        self.unknown: list[str] = []

    def at(self, key: ObjectKey) -> Object | None:
        """The object then; as it is now where that is not known."""
        store, lineage = self._here.cluster.store, self._here.cluster.lineage
        gone = lineage.gone(key)
        if max(lineage.of(key).rev, 0 if gone is None else gone.rev) <= self._rev:
            return store.get(key)
        first: Change | None = None
        for change in self._backwards(key):
            if change[0] <= self._rev:
                return change[1].object
            first = change[1]
        if first is not None and not first.existed:
            return None
        self.unknown.append(f"{key} has changed since revision {self._rev}, and its form of then is not kept")
        return store.get(key)

    def _backwards(self, key: ObjectKey) -> Iterator[tuple[int, Change]]:
        log = self._here.cluster.log
        for batch in reversed(log.between(log.tail, log.head)):
            for change in batch.changes:
                if change.key == key:
                    yield batch.rev, change

    def slices_of(self, key: ObjectKey) -> Iterable[ObjectKey]:
        """Its slices of now, and those that changed after the revision and may have been its then."""
        found = dict.fromkeys(each.key for each in self._here.slices_of(key.namespace, key.name))
        log = self._here.cluster.log
        if log.holds(self._rev):
            batches = log.between(self._rev, log.head)
            changes = (change for batch in batches for change in batch.changes)
            found.update(dict.fromkeys(change.key for change in changes if _may_be(change, key)))
        return found


def _may_be(change: Change, key: ObjectKey) -> bool:
    """Whether a slice that changed may have been the Service's: controllers begin its name with the Service's."""
    return (
        change.key.kind is Kind.ENDPOINT_SLICE
        and change.key.namespace == key.namespace
        and change.key.name.startswith(key.name)
    )


def acknowledged(here: Here, session: Session | None) -> int:
    """The revision of this replica that a node's kernel has; 0: none that is known."""
    if session is None or session.epoch != here.cluster.log.epoch or not session.acked.confirmed:
        return 0
    return session.applied_rev


def basis(here: Here, session: Session | None, newer: Iterable[str] = ()) -> inspection_pb2.Basis:
    """What an answer about a node is of."""
    rev = acknowledged(here, session)
    wrong = list(newer)
    if not rev:
        wrong.insert(0, "no agent of the node has acknowledged a state to this replica: this is of its newest")
    elif session is not None and session.closed is not None:
        wrong.insert(0, f"the node's stream has ended: this is what it had acknowledged ({session.closed.detail})")
    return inspection_pb2.Basis(
        server_id=here.server_id,
        epoch=here.epoch,
        rev=rev or here.head,
        applied_rev=rev,
        acknowledged=bool(rev) and not list(newer),
        text="; ".join(wrong),
    )
