"""The last changes with their stages, made of commits as they are acknowledged. Pure.

A change is an object at the time of one API event. Of the nodes that have it, the slowest one's stages are kept: they
say where the time went.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field

from controlplane.page.rows import key_text
from deltaplane.v1 import delta_pb2
from deltaplane.v1 import inspection_pb2 as pb

MOST = 40  # changes
STAGES = ("ingest", "send", "receive", "resolve", "commit", "ack")

Key = tuple[str, int]


class Shown(Struct):
    """One change. `stages`: (name, start, duration) in milliseconds from the API event, of the slowest node."""

    object: str
    event_ns: int
    nodes: set[str] = field(default_factory=set)
    before: int = 0  # nodes that had it before anybody looked
    failed: set[str] = field(default_factory=set)
    slowest: str = ""
    whole_ns: int = -1
    stages: tuple[tuple[str, float, float], ...] = ()
    trace: str = ""

    def view(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "object": self.object, "at": self.event_ns // 1_000_000, "nodes": self.before + len(self.nodes),
            "failed": sorted(self.failed)[:5], "slowest": self.slowest, "ms": round(self.whole_ns / 1e6, 2),
            "stages": self.stages, "trace": self.trace,
        }  # fmt: skip


class Waterfall:
    """The newest changes. `take` gets every commit; `news` has the changes that moved since it was asked before."""

    def __init__(self) -> None:
        self._shown: dict[Key, Shown] = {}
        self._moved: dict[Key, None] = {}

    def take(self, commit: pb.TailCommitsResponse) -> None:
        """A node has acknowledged a commit."""
        for cause in commit.causes:
            if cause.event_unix_nano:
                self._note(cause, commit)
        while len(self._shown) > MOST:
            oldest = min(self._shown, key=lambda key: key[1])
            del self._shown[oldest]
            self._moved.pop(oldest, None)

    def recall(self, slowest: pb.TailCommitsResponse, nodes: int, failed: list[str]) -> None:
        """Some nodes have acknowledged a commit before; the slowest stands for them."""
        self.take(slowest)
        for cause in slowest.causes:
            shown = self._shown.get((key_text(cause.object), cause.event_unix_nano))
            if shown is not None:
                shown.nodes.discard(slowest.node_name)
                shown.before += nodes
                shown.failed.update(failed)

    def _note(self, cause: delta_pb2.Cause, commit: pb.TailCommitsResponse) -> None:
        key = (key_text(cause.object), cause.event_unix_nano)
        shown = self._shown.setdefault(key, Shown(*key))
        shown.nodes.add(commit.node_name)
        if commit.failed:
            shown.failed.add(commit.node_name)
        shown.trace = shown.trace or cause.traceparent[3:35]
        whole = commit.event_to_ack_ns - _later(cause, commit)
        if whole > shown.whole_ns:
            shown.whole_ns, shown.slowest = whole, commit.node_name
            shown.stages = tuple(stages(cause, commit))
        self._moved[key] = None

    def news(self) -> list[dict[str, Any]]:
        """Changes that moved since the last call, the oldest first."""
        keys, self._moved = sorted(self._moved, key=lambda key: key[1]), {}
        return [self._shown[key].view() for key in keys]

    def all(self) -> list[dict[str, Any]]:
        """Everything that is kept, the oldest first."""
        return [shown.view() for shown in sorted(self._shown.values(), key=lambda each: each.event_ns)]


def _later(cause: delta_pb2.Cause, commit: pb.TailCommitsResponse) -> int:
    """By how much this cause is younger than the oldest of the commit, from which its durations count."""
    return cause.event_unix_nano - min(each.event_unix_nano for each in commit.causes if each.event_unix_nano)


def stages(cause: delta_pb2.Cause, commit: pb.TailCommitsResponse) -> Iterator[tuple[str, float, float]]:
    """Name, start and duration in milliseconds from the API event of this cause."""
    later, report = _later(cause, commit), commit.commit
    committed = max(0, commit.event_to_commit_ns - later)
    acked = max(committed, commit.event_to_ack_ns - later)
    ingested = min(committed, max(0, cause.ingested_unix_nano - cause.event_unix_nano))
    received = max(ingested, committed - report.queued_ns - report.resolve_ns - report.commit_ns)
    resolving = min(committed, received + report.queued_ns)
    writing = min(committed, resolving + report.resolve_ns)
    edges = (0, ingested, received, resolving, writing, committed, acked)
    for name, start, end in zip(STAGES, edges, edges[1:], strict=False):
        yield name, round(start / 1e6, 3), round((end - start) / 1e6, 3)
