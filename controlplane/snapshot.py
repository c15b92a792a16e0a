"""The snapshots this replica has ready for agents that have nothing to build on.

Called by the control plane's sessions. The last snapshot is kept for as long as what followed it is still in the log.
"""

from __future__ import annotations

from controlplane.log import Log
from controlplane.store import Store
from deltaplane.snapshot import Snapshot, State, build
from deltaplane.v1 import delta_pb2 as pb


def capture(store: Store, log: Log) -> State:
    """The state at head, cheap and immutable. Everything in the store must be in the log already."""
    return State(log.epoch, log.head, tuple(store.objects()), store.digest.value, dict(store.versions))


class Snapshots:
    """The last snapshot of each encoding, reused while the log can lead from it to head."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store = store
        self._log = log
        self._kept: dict[int, Snapshot] = {}

    def kept(self, encoding: pb.Encoding.ValueType, at_least: int = 0) -> Snapshot | None:
        """One of revision `at_least` or later that can be sent now, None if there is none yet."""
        snapshot = self._kept.get(encoding)
        fits = snapshot is not None and snapshot.rev >= at_least and self._log.holds(snapshot.rev)
        return snapshot if fits else None

    def keep(self, encoding: pb.Encoding.ValueType, snapshot: Snapshot) -> None:
        """Offers one that was built elsewhere, in a thread for instance."""
        self._kept[encoding] = snapshot

    def take(self, encoding: pb.Encoding.ValueType, at_least: int = 0) -> Snapshot:
        """One of revision `at_least` (head or earlier) or later, built here and now if need be."""
        snapshot = self.kept(encoding, at_least)
        if snapshot is None:
            snapshot = build(capture(self._store, self._log), encoding)
            self.keep(encoding, snapshot)
        return snapshot
