"""The deltas of one stream: from the last revision that was sent to what is offered, as far as the window allows.

Called by `controlplane.feed`. A single batch is sent as the bytes that all streams share, several batches as one merged
Delta, so a slow stream receives fewer and larger messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.inflight import Applied, Inflight
from controlplane.log import Log, stage
from controlplane.stream_limits import Limits
from deltaplane.v1 import delta_pb2 as pb


class Deltas:
    """`sent_rev` never decreases within a stream. The node holds a revision only when its Ack says so (S11)."""

    def __init__(self, log: Log, limits: Limits) -> None:
        self.sent_rev = 0
        self._log, self._limits = log, limits
        self._inflight = Inflight(log)

    @property
    def idle(self) -> bool:
        """Whether every delta that was sent is acknowledged."""
        return not self._inflight

    @property
    def full(self) -> bool:
        """Whether the window of unacknowledged deltas is full: nothing more is sent before an Ack."""
        limits = self._limits
        return len(self._inflight) >= limits.window_deltas or self._inflight.size >= limits.window_bytes

    @property
    def pending(self) -> bool:
        """Whether there is a delta to send now."""
        return self.sent_rev < self._log.offered and not self.full

    @property
    def reachable(self) -> bool:
        """Whether the log still has what follows `sent_rev`."""
        return self._log.holds(self.sent_rev)

    def start(self, rev: int) -> None:
        """The agent has, or gets by a snapshot, the state at `rev`; deltas continue from there."""
        self.sent_rev = rev
        self._inflight.clear()

    def next(self, unix_nano: int) -> bytes | None:
        """The next WatchResponse; None when all that is offered was sent, and while the window is full."""
        if not self.pending:
            return None
        low, high = self.sent_rev, stage(self.sent_rev, self._log.offered)
        message = self._log.merged(low, high)
        while len(message) > self._limits.message_bytes and high - low > 1:
            high = low + (high - low) // 2
            message = self._log.merged(low, high)
        self._inflight.launch(low, high, len(message), unix_nano)
        self.sent_rev = high
        return message

    def land(self, applied_rev: int, commits: Sequence[pb.CommitReport]) -> list[Applied]:
        """Removes what was applied up to `applied_rev`; returns what each reported commit covers, oldest first."""
        return self._inflight.land(applied_rev, commits)
