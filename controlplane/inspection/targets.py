"""What WaitApplied waits for, as a revision of this replica; none while the replica has not seen it itself.

A replica that lags never answers for what it has not seen: an object counts as seen by its own resourceVersion, what is
not there by that of its kind. Pure but for the store that it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from controlplane.inspection.here import Here
from controlplane.store import number_of
from deltaplane.model import EndpointSlice, Kind, ObjectKey
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.views import key_message

ABSENT = "absent"
FIRST = 1  # the revision of the first complete state


class Target(Protocol):
    """`keys`: the objects whose failure on a node is a failure of what is waited for; None: any object's."""

    @property
    def keys(self) -> frozenset[ObjectKey] | None: ...

    def reached(self) -> int | None:
        """The revision whose Ack says that a kernel has it; None: this replica has not seen it yet."""

    def text(self) -> str:
        """What is waited for, and where this replica is."""


class Version(Struct, frozen=True):
    """An object as of a resourceVersion or newer. `number` -1: there are no versions; then `digest` is its hash, 0: it
    is absent."""

    key: ObjectKey
    number: int = -1
    digest: int = 0

    def message(self) -> pb.ObjectVersion:
        """As a peer is asked for it."""
        number = str(self.number) if self.number >= 0 else ""
        return pb.ObjectVersion(
            key=key_message(self.key), resource_version=number, hash=f"{self.digest:016x}" if self.digest else ABSENT
        )


class OfObjects:
    """All of these objects, in the form that is named or a newer one; or their absence.

    `now`: the head, where they are meant as they are now. A slice that the Service has lost before is none of
    `versions`, and is in a kernel until that has a revision without it. 0: these objects alone are meant.

    `service`: this Service has no other slices than those of `versions`. That is how a peer without versions knows that
    it has seen what the Service has lost.
    """

    def __init__(self, here: Here, versions: Sequence[Version], now: int = 0, service: ObjectKey | None = None) -> None:
        self._here, self.versions, self.now, self._service = here, versions, now, service
        self._looked, self._others = -1, list[ObjectKey]()  # at which head, and what was found then
        self._rev, self._epoch = 0, here.epoch
        self.keys = frozenset(_with_owners(here, [version.key for version in versions]))

    def reached(self) -> int | None:
        here = self._here
        if here.epoch != self._epoch:
            self._epoch, self._rev, self.now = here.epoch, 0, min(self.now, FIRST)
        if not self._rev and here.cluster.ready and all(map(self._seen, self.versions)) and not self._more():
            # What the Service has lost has left no trace: every kernel must have all that there is.
            now = self.now if self._service is None else here.head
            self._rev = max(now, *(_changed(here, version.key) for version in self.versions))
        return self._rev or None

    def _seen(self, version: Version) -> bool:
        here, store = self._here, self._here.cluster.store
        if version.number < 0:
            return store.hash_of(version.key) == version.digest
        if store.get(version.key) is not None:
            return store.seen(version.key) >= version.number
        return here.seen(version.key.kind) >= version.number

    def _more(self) -> list[ObjectKey]:
        """Slices of the Service that are none of `versions`."""
        if self._service is not None and self._looked != self._here.head:
            named = {version.key for version in self.versions}
            there = self._here.slices_of(self._service.namespace, self._service.name)
            self._looked, self._others = self._here.head, [piece.key for piece in there if piece.key not in named]
        return self._others

    def text(self) -> str:
        lacks = next((self._awaited(version) for version in self.versions if not self._seen(version)), "")
        return lacks or next((f"this replica has {key}, which its peer has not" for key in self._more()), "")

    def _awaited(self, version: Version) -> str:
        store = self._here.cluster.store
        problem = self._here.cluster.problem(version.key)
        why = f"; its newest form cannot be used: {problem}" if problem else _unfollowed(self._here, version.key.kind)
        if version.number < 0:
            return f"this replica has another {version.key} than its peer{why}"
        there = store.get(version.key) is not None
        has = f"version {store.seen(version.key)}" if there else f"none, at version {self._here.seen(version.key.kind)}"
        return f"{version.key} at version {version.number} has not been seen: this replica has {has}{why}"


class OfRevision:
    """A revision of this replica, which may not be there yet. A new history begins with a state that has it."""

    keys = None

    def __init__(self, here: Here, rev: int) -> None:
        self._here, self._rev, self._epoch = here, rev, here.epoch

    def reached(self) -> int | None:
        if self._here.epoch != self._epoch:
            return FIRST
        return self._rev if 0 < self._rev <= self._here.head else None

    def text(self) -> str:
        return f"revision {self._rev} is not there yet: this replica is at {self._here.head}"


class OfDigest:
    """A state that a peer had, where there are no versions."""

    keys = None

    def __init__(self, here: Here, digest: int) -> None:
        self._here, self._digest, self._rev, self._epoch = here, digest, 0, here.epoch

    def reached(self) -> int | None:
        here = self._here
        if here.epoch != self._epoch:
            self._epoch, self._rev = here.epoch, 0
        if not self._rev and here.cluster.ready and here.cluster.store.digest.value == self._digest:
            self._rev = here.head
        return self._rev or None

    def text(self) -> str:
        return "" if self._rev else "this replica has not had the state that its peer has"


class OfVersions:
    """Every change of each kind up to a resourceVersion: a revision of a peer, in words that both understand."""

    keys = None

    def __init__(self, here: Here, versions: dict[Kind, int]) -> None:
        self._here, self._versions = here, versions
        self._rev, self._epoch = 0, here.epoch

    def reached(self) -> int | None:
        here = self._here
        if here.epoch != self._epoch:
            self._epoch, self._rev = here.epoch, 0
        if not self._rev and here.cluster.ready and not self._behind():
            self._rev = here.head
        return self._rev or None

    def _behind(self) -> list[Kind]:
        return [kind for kind, number in self._versions.items() if self._here.seen(kind) < number]

    def text(self) -> str:
        for kind in self._behind():
            where = f"{kind.name} at version {self._versions[kind]} has not been seen"
            return f"{where}: this replica is at {self._here.seen(kind)}{_unfollowed(self._here, kind)}"
        return ""


class AfterVersions:
    """A target, in a state that has every change up to these versions as well."""

    def __init__(self, target: Target, versions: OfVersions) -> None:
        self.target, self._versions = target, versions

    @property
    def keys(self) -> frozenset[ObjectKey] | None:
        return self.target.keys

    def reached(self) -> int | None:
        mine, theirs = self.target.reached(), self._versions.reached()
        return None if mine is None or theirs is None else max(mine, theirs)

    def text(self) -> str:
        return self.target.text() or self._versions.text()


def newest(here: Here) -> dict[Kind, int]:
    """What a peer has to have seen to have all that this replica has."""
    return {kind: number for kind, number in here.cluster.store.newest.items() if number >= 0}


def version_of(here: Here, key: ObjectKey) -> Version:
    """The object as this replica has it now, in words that a peer understands."""
    store, gone = here.cluster.store, here.cluster.lineage.gone(key)
    if store.get(key) is not None:
        return Version(key, store.seen(key), store.hash_of(key))
    return Version(key, number_of(gone.version) if gone is not None else -1)


def with_slices(here: Here, key: ObjectKey) -> list[ObjectKey]:
    """A Service with its slices of now; anything else alone."""
    if key.kind is not Kind.SERVICE:
        return [key]
    return [key, *(each.key for each in here.slices_of(key.namespace, key.name))]


def _changed(here: Here, key: ObjectKey) -> int:
    lineage = here.cluster.lineage
    gone = lineage.gone(key)
    return max(FIRST, lineage.of(key).rev, 0 if gone is None else gone.rev)


def _with_owners(here: Here, keys: Iterable[ObjectKey]) -> Iterable[ObjectKey]:
    """With each slice its Service: that is what fails in a kernel."""
    for key in keys:
        yield key
        piece = here.cluster.store.get(key)
        if isinstance(piece, EndpointSlice):
            yield ObjectKey(Kind.SERVICE, piece.namespace, piece.service)


def _unfollowed(here: Here, kind: Kind) -> str:
    following = here.followed(kind)
    return f"; it cannot follow {following.resource}: {following.error}" if following and following.error else ""
