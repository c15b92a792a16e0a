"""The slowest two nodes of each traced change: known once all have answered, so their commits wait here until then.

Pure. Called by `otlp` for sampled changes alone. What waits is bounded: `MOST` traces, two commits each; a trace that
some node never answers is given up after `PATIENCE_NS`.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from controlplane.trace import NodeCommit

SLOWEST = 2
MOST = 256  # traces
PATIENCE_NS = 10 * 10**9
Found = tuple[str, NodeCommit]
"""A trace, by its traceparent, and a commit that belongs into it."""


class _Open(Struct):
    since_ns: int
    heard: int = 0
    reported: int = 0
    slowest: list[tuple[int, bool, NodeCommit]] = field(default_factory=list)  # duration, whether it is in the trace


class Slowest:
    """`heard` gets every commit of a traced change."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def heard(self, traceparent: str, commit: NodeCommit, *, reported: bool) -> list[Found]:
        """Commits that are known to be among the slowest now. `reported`: this one is in the trace anyway."""
        trace = self._open.setdefault(traceparent, _Open(commit.acked_ns))
        trace.heard += 1
        trace.reported += reported
        trace.slowest.append((commit.took_ns, reported, commit))
        trace.slowest.sort(key=lambda each: each[0], reverse=True)
        del trace.slowest[SLOWEST:]
        found = list(self._close(traceparent)) if trace.heard >= commit.nodes else []
        while (oldest := self._overdue(commit.acked_ns)) is not None:
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

    def _close(self, traceparent: str) -> Iterator[Found]:
        trace = self._open.pop(traceparent, None)
        if trace is not None:
            yield from ((traceparent, commit) for _, reported, commit in trace.slowest if not reported)
