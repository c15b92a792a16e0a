"""Partial snapshots: of the buckets in which an agent's state differs from this replica's, and of nothing else.

Called by `controlplane.snapshot.Snapshots` for an agent that said its bucket digests. Which buckets differ is known by
256 comparisons; their objects come from the store's index. The last few are kept: one serves every agent that has
outside of its buckets what this replica had at its revision, which after a common fault are all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from controlplane.log import Log
from controlplane.store import Store
from deltaplane.digest import BUCKETS, differing
from deltaplane.snapshot import Snapshot, State
from deltaplane.v1 import delta_pb2 as pb

if TYPE_CHECKING:
    from controlplane.snapshot import Builder

MOST = BUCKETS // 2  # where more differ, the whole state is sent, which is built once for everybody
KEPT = 16
KEPT_BYTES = 16 * 1024 * 1024
AT_A_TIME = 2  # builds; each has a thread


class Part(Struct, eq=False):
    """One partial snapshot; `snapshot` is None while it is being built. `digests`: the whole state's, at `rev`."""

    epoch: bytes
    rev: int
    encoding: int
    buckets: frozenset[int]
    digests: tuple[int, ...]
    snapshot: Snapshot | None = None
    size: int = 0

    def serves(self, held: Sequence[int]) -> bool:
        """Whether an agent that holds this has the same state afterwards, for at most twice the buckets it lacks."""
        lacking = differing(held, self.digests)
        return lacking <= self.buckets and len(self.buckets) <= 2 * len(lacking)


class Partials:
    """Those that are kept and those that are being built."""

    def __init__(self, store: Store, log: Log, builder: Builder) -> None:
        self._store, self._log, self._builder = store, log, builder
        self._kept: deque[Part] = deque()
        self._building: dict[int, tuple[Part, set[Callable[[], None]]]] = {}
        self._crowd: set[Callable[[], None]] = set()  # whoever waits until one more may be built

    def differing(self, held: Sequence[int]) -> frozenset[int] | None:
        """The buckets to send to an agent that holds this; None: it said nothing of use, or the whole is better."""
        if len(held) != BUCKETS:
            return None
        found = differing(held, self._store.digest.buckets)
        return found if len(found) <= MOST else None

    def take(
        self, held: Sequence[int], encoding: pb.Encoding.ValueType, at_least: int, wake: Callable[[], None]
    ) -> Snapshot | None:
        """One for an agent that holds this, which `differing` found fit. None: ask again after `wake`."""
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

    def _find(self, parts: Iterable[Part], held: Sequence[int], encoding: int, at_least: int) -> Part | None:
        log = self._log
        for part in parts:
            lasting = part.epoch == log.epoch and part.rev >= at_least and log.holds(part.rev)
            if lasting and part.encoding == encoding and part.serves(held):
                return part
        return None

    def _build(self, held: Sequence[int], encoding: pb.Encoding.ValueType, wake: Callable[[], None]) -> Snapshot | None:
        digests = tuple(self._store.digest.buckets)
        part = Part(self._log.epoch, self._log.head, encoding, differing(held, digests), digests)
        self._building[id(part)] = part, set()
        self._builder(self._capture(part), encoding, partial(self._built, part))
        if part.snapshot is None and id(part) in self._building:
            self._building[id(part)][1].add(wake)
        return part.snapshot

    def _capture(self, part: Part) -> State:
        store, buckets = self._store, tuple(sorted(part.buckets))
        objects = tuple(store.within(buckets))
        return State(part.epoch, part.rev, objects, store.digest.value, dict(store.versions), buckets)

    def _built(self, part: Part, snapshot: Snapshot | None) -> None:
        _, waiting = self._building.pop(id(part))
        crowd, self._crowd = self._crowd, set()
        if snapshot is None:
            waiting = set()  # they ask again in their own time
        else:
            part.snapshot, part.size = snapshot, sum(map(len, snapshot.messages))
            self._keep(part)
        for wake in waiting | crowd:
            wake()

    def _keep(self, part: Part) -> None:
        self._kept.appendleft(part)
        while len(self._kept) > 1 and (len(self._kept) > KEPT or sum(each.size for each in self._kept) > KEPT_BYTES):
            self._kept.pop()
