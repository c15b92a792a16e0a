"""Where this agent is in a replica's history: epoch, revision, and the API versions behind it.

Called by the session as snapshots, deltas and Welcomes come in. It knows no objects.
"""

from __future__ import annotations

from deltaplane.model import Kind
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.validation import MisfitError


class Cursor:
    """`epoch` is empty while there is no state; `rev` is the mirror's, in `epoch`."""

    def __init__(self) -> None:
        self.epoch = b""
        self.rev = 0
        self.versions: dict[int, str] = {}
        self._alias: tuple[int, int] | None = None  # (rev before a rebase, the same state's rev after)

    def expect(self, delta: pb.Delta) -> None:
        """The Delta must start where this agent is (S2). Raises `MisfitError`."""
        if delta.epoch != self.epoch or delta.from_rev != self.rev or delta.to_rev <= delta.from_rev:
            came = f"{delta.from_rev} to {delta.to_rev} of epoch {delta.epoch.hex()}"
            raise MisfitError(pb.RESYNC_REASON_GAP, f"delta {came} at revision {self.rev} of {self.epoch.hex()}")

    def follow(self, delta: pb.Delta) -> None:
        """The Delta was taken in."""
        self.rev = delta.to_rev
        self._alias = None
        for item in delta.versions:
            self.versions[item.kind] = item.version

    def adopt(self, epoch: bytes, end: pb.SnapshotEnd) -> None:
        """A snapshot was taken in."""
        self.epoch, self.rev = epoch, end.rev
        self.versions = {item.kind: item.version for item in end.versions}
        self._alias = None

    def rebase(self, welcome: pb.Welcome, applied_rev: int) -> int:
        """Another replica holds the same state: its epoch and revision are ours from now on.

        Gives what of it the kernel has, when it had `applied_rev` before: all of it, or, as far as is known, nothing.
        """
        before, self.epoch, self.rev = self.rev, welcome.epoch, welcome.head_rev
        held = applied_rev == before and before > 0
        self._alias = None if held else (before, self.rev)
        return self.rev if held else 0

    def translate(self, rev: int) -> int:
        """A revision from before a rebase as the present epoch counts it, never beyond `rev`."""
        if self._alias is not None and rev == self._alias[0]:
            rev = self._alias[1]
        return min(rev, self.rev)

    def by_kind(self) -> dict[Kind, str]:
        """The versions of the kinds this program knows."""
        return {Kind(kind): version for kind, version in self.versions.items() if kind in set(Kind)}
