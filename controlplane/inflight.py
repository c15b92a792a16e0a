"""The window of one stream: deltas that were sent and not acknowledged yet. Pure; called by `controlplane.deltas`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

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
        self._sent: list[_Sent] = []  # few; an empty deque takes 0.7 KiB, which each stream would have

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
        count = 0
        while count < len(self._sent) and self._sent[count].to_rev <= applied_rev:
            self.size -= self._sent[count].size
            count += 1
        gone = self._sent[:count]
        del self._sent[:count]
        if not commits:
            return []
        landed = deque(gone)
        return [self._applied(report, landed) for report in commits]

    def _applied(self, report: pb.CommitReport, landed: deque[_Sent]) -> Applied:
        """Takes the deltas of this commit from `landed`: one, or several that follow each other."""
        if not landed or landed[0].to_rev > report.to_rev:
            return Applied(report, (), 0, 0, 0)
        first = last = landed.popleft()
        while landed and landed[0].to_rev <= report.to_rev:
            last = landed.popleft()
        causes, more, emitted = self._log.causes(first.from_rev, last.to_rev)
        return Applied(report, causes, more, emitted, first.unix_nano)
