"""Deltas that were sent on one stream and are not acknowledged yet: its window, and what an Ack says of them.

Called by the stream's session. It knows no messages and no time of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from controlplane.log import Log, choose
from deltaplane.v1 import delta_pb2 as pb


class Applied(Struct, frozen=True):
    """One commit an Ack reports, with the reasons of what it committed. Times are Unix nanoseconds of this process."""

    report: pb.CommitReport
    causes: tuple[pb.Cause, ...]
    more_causes: int
    emitted_unix_nano: int
    sent_unix_nano: int


class _Sent(Struct, frozen=True):
    from_rev: int
    to_rev: int
    size: int
    unix_nano: int


class Inflight:
    """Sent deltas, oldest first; `len` of them and `size` bytes are under way."""

    def __init__(self, log: Log) -> None:
        self.size = 0
        self._log = log
        self._sent: deque[_Sent] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    def launch(self, from_rev: int, to_rev: int, size: int, unix_nano: int) -> None:
        """A Delta goes out."""
        self._sent.append(_Sent(from_rev, to_rev, size, unix_nano))
        self.size += size

    def clear(self) -> None:
        """A snapshot takes the place of all of them."""
        self._sent.clear()
        self.size = 0

    def land(self, applied_rev: int, commits: Iterable[pb.CommitReport]) -> list[Applied]:
        """Everything up to `applied_rev` arrived; what each reported commit covers, oldest first."""
        landed: deque[_Sent] = deque()
        while self._sent and self._sent[0].to_rev <= applied_rev:
            sent = self._sent.popleft()
            self.size -= sent.size
            landed.append(sent)
        return [self._applied(report, landed) for report in commits]

    def _applied(self, report: pb.CommitReport, landed: deque[_Sent]) -> Applied:
        """Takes from `landed` what this commit covers: the agent may have committed several deltas at once."""
        causes: list[pb.Cause] = []
        more = emitted = sent_at = 0
        while landed and landed[0].to_rev <= report.to_rev:
            sent = landed.popleft()
            sent_at = sent_at or sent.unix_nano
            if self._log.holds(sent.from_rev):
                for batch in self._log.between(sent.from_rev, sent.to_rev):
                    causes += batch.causes
                    more += batch.more_causes
                    emitted = emitted or batch.emitted_unix_nano
        kept = choose(causes)
        return Applied(report, kept, more + len(causes) - len(kept), emitted, sent_at)
