"""Partial snapshots: only the leaves, or buckets, in which an agent's state differs from this replica's.

`controlplane.snapshot.Snapshots` calls it for agents whose digests are known: of the 4,096 leaves, or, of an agent that
cannot be asked for those (`controlplane.inquiry`), of the 256 buckets. Comparing them finds the places that differ; the
store's index has their objects. It keeps the last few partial snapshots: one serves every agent that differs in its
places only, which after a common fault are all agents.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from msgspec import Struct

from controlplane.building import Builder
from controlplane.log import Log
from controlplane.store import Store
from deltaplane.digest import BUCKET, BUCKETS, LEAVES, Level, Places, differing, level_of
from deltaplane.snapshot import Snapshot, State
from deltaplane.v1 import delta_pb2 as pb

KEPT = 16
KEPT_BYTES = 16 * 1024 * 1024
AT_A_TIME = 2  # builds, each in a thread


def most_of(level: Level) -> int:
    """If more of its places differ, the whole state is sent, which is built once for all agents.

    Leaves are few objects each, so that three quarters of them are well below the whole where changes were anywhere.
    """
    return BUCKETS // 2 if level is BUCKET else LEAVES * 3 // 4


class Part(Struct, eq=False):
    """One partial snapshot. `snapshot` is None while it is being built. `digests` are all of its level at `rev`."""

    epoch: bytes
    rev: int
    encoding: int
    places: Places
    digests: bytes
    snapshot: Snapshot | None = None
    size: int = 0

    def serves(self, held: bytes) -> bool:
        """Whether it brings an agent with these digests up to `rev`, by at most twice the places it lacks."""
        if len(held) != len(self.digests):
            return False
        lacking, numbers = differing(held, self.digests), self.places.numbers
        return lacking <= numbers and len(numbers) <= 2 * len(lacking)


class Partials:
    """The partial snapshots that are kept, and those that are being built."""

    def __init__(self, store: Store, log: Log, builder: Builder) -> None:
        self._store, self._log, self._builder = store, log, builder
        self._kept: deque[Part] = deque()
        self._building: dict[int, tuple[Part, set[Callable[[], None]]]] = {}
        self._crowd: set[Callable[[], None]] = set()  # waits until one more may be built

    def __len__(self) -> int:
        """How many partial snapshots are kept."""
        return len(self._kept)

    def differing(self, held: bytes) -> Places | None:
        """What to send to an agent with these digests. None: they are not known, or too much differs."""
        level = level_of(held)
        if level is None:
            return None
        found = differing(held, self._store.digest.at(level))
        return Places(level, found) if len(found) <= most_of(level) else None

    def take(
        self, held: bytes, encoding: pb.Encoding.ValueType, at_least: int, wake: Callable[[], None]
    ) -> Snapshot | None:
        """A snapshot for an agent with these digests, if `differing` is not None. None: ask again after `wake`."""
        if (kept := self._find(self._kept, held, encoding, at_least)) is not None:
            return kept.snapshot
        under_way = (part for part, _ in self._building.values())
        if (part := self._find(under_way, held, encoding, at_least)) is not None:
            self._building[id(part)][1].add(wake)
        elif len(self._building) >= AT_A_TIME:
            self._crowd.add(wake)
        else:
            return self._build(held, encoding, wake)
        return None

    def _find(self, parts: Iterable[Part], held: bytes, encoding: int, at_least: int) -> Part | None:
        log = self._log
        for part in parts:
            lasting = part.epoch == log.epoch and part.rev >= at_least and log.holds(part.rev)
            if lasting and part.encoding == encoding and part.serves(held):
                return part
        return None

    def _build(self, held: bytes, encoding: pb.Encoding.ValueType, wake: Callable[[], None]) -> Snapshot | None:
        level = level_of(held) or BUCKET
        digests = self._store.digest.at(level)
        places = Places(level, differing(held, digests))
        part = Part(self._log.epoch, self._log.head, encoding, places, digests)
        self._building[id(part)] = part, set()
        self._builder(self._capture(part), encoding, partial(self._built, part))
        if part.snapshot is None and id(part) in self._building:
            self._building[id(part)][1].add(wake)
        return part.snapshot

    def _capture(self, part: Part) -> State:
        store, places = self._store, part.places
        objects = tuple(store.within(places))
        return State(part.epoch, part.rev, objects, store.digest.value, dict(store.versions), places)

    def _built(self, part: Part, snapshot: Snapshot | None) -> None:
        _, waiting = self._building.pop(id(part))
        crowd, self._crowd = self._crowd, set()
        if snapshot is None:
            waiting = set()  # these streams ask again with their next heartbeat
        else:
            part.snapshot, part.size = snapshot, sum(map(len, snapshot.messages))
            self._keep(part)
        for wake in waiting | crowd:
            wake()

    def _keep(self, part: Part) -> None:
        self._kept.appendleft(part)
        while len(self._kept) > 1 and (len(self._kept) > KEPT or sum(each.size for each in self._kept) > KEPT_BYTES):
            self._kept.pop()
