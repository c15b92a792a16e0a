"""When to acknowledge, and what the acknowledgement says.

Called by the agent's session. An Ack is cumulative and costs the replica as much as a Delta, so it waits for its
interval, unless a trace, a failure or the window makes it urgent. Time is given to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import inf

from google.protobuf.message import DecodeError

from deltaplane.v1 import delta_pb2 as pb

MAX_COMMITS = 16
MOST_INTERVAL = 10.0  # seconds that a replica may have an Ack wait
MOST_WINDOW = 1024  # deltas
MAX_TEXT = 300  # characters of a failure
FAILED_BYTES = 40 * 1024  # of failures in one Ack; what is beyond is counted (the whole stays below 64 KiB)


class Acks:
    """What the kernel has, and what of it was acknowledged. Revisions are of the current epoch."""

    def __init__(self) -> None:
        self.min_interval = 0.5  # seconds
        self.window = 64  # deltas
        self.applied_rev = 0
        self.unsupported_ops = 0
        self._failed: tuple[pb.ObjectFailure, ...] = ()
        self._committed_unix_nano = 0
        self._commits: deque[tuple[pb.CommitReport, float]] = deque(maxlen=MAX_COMMITS)
        self._unacked = 0  # deltas received since the last Ack
        self._urgent = False
        self._due = False
        self._last = float("-inf")

    def received(self, *, awaited: bool) -> None:
        """A delta came in. `awaited`: it has a trace, or the replica asks for its Ack."""
        self._unacked += 1
        self._urgent = self._urgent or awaited or self._unacked * 2 >= self.window

    def configure(self, welcome: pb.Welcome) -> None:
        """Takes the replica's interval and window, within bounds: an agent that waits for days never answers."""
        self.min_interval = min(welcome.min_ack_interval_ms / 1000, MOST_INTERVAL)
        self.window = min(welcome.ack_window or self.window, MOST_WINDOW)

    def applied(
        self,
        rev: int,
        now: float,
        *,
        report: pb.CommitReport | None,
        failed: Sequence[pb.ObjectFailure],
        unix_nano: int,
    ) -> None:
        """Everything up to `rev` is in the kernel, apart from `failed`, which are all that fail at present (S10)."""
        failures = tuple(failed)
        self._urgent = self._urgent or failures != self._failed
        self._failed = failures
        self.applied_rev = max(self.applied_rev, rev)
        self._committed_unix_nano = unix_nano
        if report is not None:
            self._commits.append((report, now))
        self._due = True

    def rebase(self, rev: int) -> None:
        """Revisions are of another epoch or snapshot from now on; the kernel has `rev` of these."""
        self.applied_rev = rev
        self._commits.clear()
        self._due = True
        self._urgent = True

    def due(self, now: float) -> bool:
        """Whether an Ack should go out now."""
        return self.due_in(now) <= 0

    def due_in(self, now: float) -> float:
        """Seconds until an Ack should go out; infinite while there is nothing to acknowledge."""
        if not self._due:
            return inf
        return 0.0 if self._urgent else self._last + self.min_interval - now

    def make(self, received_rev: int, now: float) -> bytes:
        """The Ack to send now, serialised."""
        ack = pb.Ack(
            received_rev=received_rev,
            applied_rev=self.applied_rev,
            committed_unix_nano=self._committed_unix_nano,
            unsupported_ops=self.unsupported_ops,
        )
        ack.failed.extend(shortened(self._failed))
        ack.more_failed = len(self._failed) - len(ack.failed)
        for report, committed_at in self._commits:
            report.ack_delay_ns = max(0, int((now - committed_at) * 1e9))
            ack.commits.append(report)
        self._commits.clear()
        self._unacked = 0
        self._urgent = self._due = False
        self._last = now
        return pb.WatchRequest(ack=ack).SerializeToString()


def held(brake: pb.Brake) -> bytes:
    """The Ack of an agent whose safety brake holds a change: it names that and no revision."""
    return pb.WatchRequest(ack=pb.Ack(brake=brake)).SerializeToString()


def pending(received_rev: int, text: str = "") -> bytes:
    """The kernel does not have this revision yet. `text`: why it takes nothing; empty: the commit has begun."""
    return pb.WatchRequest(pending=pb.Pending(received_rev=received_rev, text=_cut(text))).SerializeToString()


def pending_of(data: bytes) -> list[bytes]:
    """What to say of a message whose commit takes long; nothing where it is no delta."""
    try:
        rev = pb.WatchResponse.FromString(data).delta.to_rev
    except DecodeError:
        return []
    return [pending(rev)] if rev else []


def shortened(failures: Iterable[pb.ObjectFailure]) -> list[pb.ObjectFailure]:
    """The first failures, with their texts cut, as far as there is room for them."""
    found: list[pb.ObjectFailure] = []
    room = FAILED_BYTES
    for failure in failures:
        if len(failure.text) > MAX_TEXT:
            whole, failure = failure, pb.ObjectFailure()  # noqa: PLW2901 - the one that is reported stays whole
            failure.CopyFrom(whole)
            failure.text = _cut(whole.text)
        room -= failure.ByteSize() + 4
        if room < 0:
            break
        found.append(failure)
    return found


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
