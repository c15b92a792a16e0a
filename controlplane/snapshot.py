"""The snapshots this replica has ready for agents that deltas cannot bring up.

Called by the control plane's sessions. The last snapshot is kept for as long as what followed it is still in the log.
Building one takes a third of a second at 100,000 endpoints, so the server has it done beside its event loop
(`controlplane.snapshot_builder`); whoever asks meanwhile is woken when it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from controlplane.log import Log
from controlplane.partial import Partials
from controlplane.store import Store
from deltaplane.snapshot import Snapshot, State, build
from deltaplane.v1 import delta_pb2 as pb

Done = Callable[[Snapshot | None], None]
Builder = Callable[[State, pb.Encoding.ValueType, Done], None]
"""Builds a snapshot of a state, now or later, and hands it to the last argument; None: it could not be built."""


def at_once(state: State, encoding: pb.Encoding.ValueType, done: Done) -> None:
    """A `Builder` that waits for nothing."""
    done(build(state, encoding))


def capture(store: Store, log: Log) -> State:
    """The state at head, cheap and immutable. Everything in the store must be in the log already."""
    return State(log.epoch, log.head, tuple(store.objects()), store.digest.value, dict(store.versions))


class Snapshots:
    """The last snapshot of each encoding, reused while the log can lead from it to head."""

    def __init__(self, store: Store, log: Log, builder: Builder = at_once) -> None:
        self._store = store
        self._log = log
        self._builder = builder
        self._partials = Partials(store, log, builder)
        self._kept: dict[int, tuple[bytes, Snapshot]] = {}  # with the epoch they are of
        self._waiting: dict[int, set[Callable[[], None]]] = {}  # whoever waits for one that is being built

    def kept(self, encoding: pb.Encoding.ValueType, at_least: int = 0) -> Snapshot | None:
        """One of revision `at_least` or later that can be sent now, None if there is none yet."""
        epoch, snapshot = self._kept.get(encoding, (b"", None))
        if snapshot is None or epoch != self._log.epoch:
            return None
        return snapshot if snapshot.rev >= at_least and self._log.holds(snapshot.rev) else None

    def take(
        self,
        encoding: pb.Encoding.ValueType,
        at_least: int = 0,
        wake: Callable[[], None] = lambda: None,
        held: Sequence[int] = (),
    ) -> Snapshot | None:
        """One of revision `at_least` (head or earlier) or later. None: it is being built; ask again after `wake`.

        `held`: the bucket digests of an agent that takes a partial one; empty: a whole one.
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
            return  # who waits asks again in their own time
        self._kept[encoding] = epoch, snapshot
        for wake in waiting:
            wake()
