"""The slowest two nodes of each traced change: known once all have answered, so their commits wait here until then.

Pure. Called by `otlp` for sampled changes alone. What waits is bounded: `MOST` traces, two commits each; a trace that
some node never answers is given up after `PATIENCE_NS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from msgspec import Struct, field

from controlplane.trace import NodeCommit

SLOWEST = 2
MOST = 256  # traces
PATIENCE_NS = 10 * 10**9
Found = tuple[str, NodeCommit]
"""A trace, by its traceparent, and a commit that belongs into it."""


class _Open(Struct):
    """`least`: what takes no longer is not among the slowest, nanoseconds."""

    since_ns: int
    heard: int = 0
    reported: int = 0
    least: float = -inf
    slowest: list[tuple[int, bool, NodeCommit]] = field(default_factory=list)  # duration, whether it is in the trace

    def take(self, took_ns: int, commit: NodeCommit, *, reported: bool) -> None:
        """Keeps it among the slowest."""
        self.slowest.append((took_ns, reported, commit))
        self.slowest.sort(key=lambda each: each[0], reverse=True)
        del self.slowest[SLOWEST:]
        if len(self.slowest) == SLOWEST:
            self.least = self.slowest[-1][0]


class Slowest:
    """`heard` gets every commit of a traced change, `overdue` is asked now and then."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def heard(self, traceparent: str, commit: NodeCommit, took_ns: int, *, reported: bool) -> Iterable[Found]:
        """Commits that are known to be among the slowest now. `took_ns`: that of the commit. `reported`: it is in the
        trace anyway."""
        trace = self._open.get(traceparent)
        if trace is None:
            trace = self._open[traceparent] = _Open(commit.acked_ns)
        trace.heard += 1
        trace.reported += reported
        if took_ns > trace.least:
            trace.take(took_ns, commit, reported=reported)
        return self._close(traceparent) if trace.heard >= commit.nodes else ()

    def overdue(self, now_ns: int) -> list[Found]:
        """Of traces that have waited for too long, and of the oldest where too many wait."""
        found: list[Found] = []
        while (oldest := self._overdue(now_ns)) is not None:
            found += self._close(oldest)
        return found

    def reported(self, traceparent: str) -> int:
        """How many commits are in the trace so far."""
        trace = self._open.get(traceparent)
        return 0 if trace is None else trace.reported

    def rest(self) -> list[Found]:
        """What still waits, at the end."""
        return [found for each in list(self._open) for found in self._close(each)]

    def _overdue(self, now_ns: int) -> str | None:
        """The one that was begun first, if it has waited for too long, or too many wait."""
        oldest = next(iter(self._open.items()), None)
        if oldest is None:
            return None
        old = now_ns - oldest[1].since_ns > PATIENCE_NS
        return oldest[0] if old or len(self._open) > MOST else None

    def _close(self, traceparent: str) -> list[Found]:
        trace = self._open.pop(traceparent)
        return [(traceparent, commit) for _, reported, commit in trace.slowest if not reported]
