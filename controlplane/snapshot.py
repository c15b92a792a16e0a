"""The snapshots that this replica keeps for agents that deltas cannot bring up.

Called by the streams. It keeps the last snapshot as long as the log has what follows it. Building one takes a third of
a second at 100,000 endpoints, so the server builds it outside the event loop (`controlplane.snapshot_builder`) and
wakes the streams that wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from controlplane.building import Builder, at_once
from controlplane.log import Log
from controlplane.partial import Partials
from controlplane.store import Store
from deltaplane.digest import StateDigest
from deltaplane.snapshot import Snapshot, State
from deltaplane.v1 import delta_pb2 as pb


def capture(store: Store, log: Log) -> State:
    """The state at head: cheap to make, and immutable. The log must already have all changes of the store."""
    return State(log.epoch, log.head, tuple(store.objects()), store.digest.value, dict(store.versions))


class Snapshots:
    """The last snapshot of each encoding, reused while the log can lead from it to head."""

    def __init__(self, store: Store, log: Log, builder: Builder = at_once) -> None:
        self._store = store
        self._log = log
        self._builder = builder
        self._partials = Partials(store, log, builder)
        self._kept: dict[int, tuple[bytes, Snapshot]] = {}  # with their epoch
        self._waiting: dict[int, set[Callable[[], None]]] = {}  # the streams that wait for a build

    @property
    def digest(self) -> StateDigest:
        """That of the state which the next snapshot will have."""
        return self._store.digest

    def kept(self, encoding: pb.Encoding.ValueType, at_least: int = 0) -> Snapshot | None:
        """The kept snapshot, if it has revision `at_least` or later and the log leads on from it; else None."""
        epoch, snapshot = self._kept.get(encoding, (b"", None))
        if snapshot is None or epoch != self._log.epoch:
            return None
        return snapshot if snapshot.rev >= at_least and self._log.holds(snapshot.rev) else None

    def take(
        self,
        encoding: pb.Encoding.ValueType,
        at_least: int = 0,
        wake: Callable[[], None] = lambda: None,
        held: bytes = b"",
    ) -> Snapshot | None:
        """A snapshot of revision `at_least` (head at most) or later. None: it is being built; ask again after `wake`.

        `held`: the digests of an agent that takes a partial snapshot (`deltaplane.digest.packed`); empty: a whole one.
        """
        if self._partials.differing(held) is not None:
            return self._partials.take(held, encoding, at_least, wake)
        if self.kept(encoding, at_least) is None:
            if encoding not in self._waiting:
                self._waiting[encoding] = set()
                state = capture(self._store, self._log)
                self._builder(state, encoding, partial(self._built, encoding, state.epoch))
            if encoding in self._waiting:
                self._waiting[encoding].add(wake)
        return self.kept(encoding, at_least)

    def _built(self, encoding: pb.Encoding.ValueType, epoch: bytes, snapshot: Snapshot | None) -> None:
        waiting = self._waiting.pop(encoding)
        if snapshot is None:
            return  # the streams ask again with their next heartbeat
        self._kept[encoding] = epoch, snapshot
        for wake in waiting:
            wake()
