"""The window of one stream: deltas that were sent and not acknowledged yet. Pure; called by `controlplane.deltas`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from controlplane.batch import choose
from controlplane.log import Log
from deltaplane.v1 import delta_pb2 as pb


class Applied(Struct, frozen=True):
    """One commit that an Ack reports, with the causes of its changes. Times are Unix nanoseconds of this machine."""

    report: pb.CommitReport
    causes: tuple[pb.Cause, ...]
    more_causes: int
    emitted_unix_nano: int
    sent_unix_nano: int


class _Sent(Struct, frozen=True, gc=False):
    from_rev: int
    to_rev: int
    size: int
    unix_nano: int


class Inflight:
    """Unacknowledged deltas, oldest first. `len` counts them, `size` is their bytes."""

    def __init__(self, log: Log) -> None:
        self.size = 0
        self._log = log
        self._sent: deque[_Sent] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    def launch(self, from_rev: int, to_rev: int, size: int, unix_nano: int) -> None:
        """Adds a delta that is sent now."""
        self._sent.append(_Sent(from_rev, to_rev, size, unix_nano))
        self.size += size

    def clear(self) -> None:
        """Forgets all of them; a snapshot replaces them."""
        self._sent.clear()
        self.size = 0

    def land(self, applied_rev: int, commits: Sequence[pb.CommitReport]) -> list[Applied]:
        """Removes what was applied up to `applied_rev`; returns what each reported commit covers, oldest first."""
        landed: deque[_Sent] | None = deque() if commits else None
        while self._sent and self._sent[0].to_rev <= applied_rev:
            sent = self._sent.popleft()
            self.size -= sent.size
            if landed is not None:
                landed.append(sent)
        if landed is None:
            return []
        return [self._applied(report, landed) for report in commits]

    def _applied(self, report: pb.CommitReport, landed: deque[_Sent]) -> Applied:
        """Takes the deltas of this commit from `landed`; an agent may commit several deltas at once."""
        causes: list[pb.Cause] = []
        more = emitted = sent_at = 0
        while landed and landed[0].to_rev <= report.to_rev:
            sent = landed.popleft()
            sent_at = sent_at or sent.unix_nano
            found, others, first = self._log.causes(sent.from_rev, sent.to_rev)
            causes += found
            more += others
            emitted = emitted or first
        kept = choose(causes)
        return Applied(report, kept, more + len(causes) - len(kept), emitted, sent_at)
