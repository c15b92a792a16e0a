"""`deltaplane top`: changes per second, lag, slow nodes and commits. Pure: samples in, a frame out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.output import Answer
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.text import count, nanoseconds, seconds
from operatorcli.views import nodes as node_view

KEPT = 10_000  # commits
FACTS = columns("", "*")
NODES = columns("NODE*", "STATE", "BEHIND>", "REVISIONS>", "COMMITS/S>", "SLOWEST COMMIT>", "FAILED>")


class Sample(Struct, frozen=True):
    """`at` in monotonic seconds."""

    at: float
    nodes: pb.ListNodesResponse


class Commit(Struct, frozen=True):
    """`at`: when it was told, in monotonic seconds; times in ns, from the event and in the kernel."""

    at: float
    node: str
    event_to_commit: int
    took: int


class Top:
    """Keeps the last two samples, and the commits of the time that is shown."""

    def __init__(self, span: float = 10.0) -> None:
        self._span = span
        self._samples: deque[Sample] = deque(maxlen=2)
        self._commits: deque[Commit] = deque(maxlen=KEPT)
        self.deaf = ""  # why commits are not told

    def take(self, sample: Sample) -> None:
        self._samples.append(sample)

    def told(self, at: float, response: pb.TailCommitsResponse) -> None:
        if not response.HasField("commit"):  # a replica that is missing
            return
        commit = response.commit
        self._commits.append(Commit(at, response.node_name, response.event_to_commit_ns, commit.commit_ns))

    def frame(self, rows: int = 10) -> Answer:
        """What there is to see at the newest sample; `rows`: nodes, the slowest first."""
        newest = self._samples[-1]
        commits = [each for each in self._commits if each.at > newest.at - self._span]
        nodes = sorted(newest.nodes.nodes, key=_place)
        facts = self._facts(newest.nodes, commits)
        blocks: list[Block] = [
            Table(FACTS, [(Cell(name, "strong"), value) for name, value in facts.items()]),
            Sentence(""),
            Table(
                NODES,
                [self._row(node, node_view.head(node, newest.nodes), commits) for node in nodes[:rows]],
                empty=node_view.NONE,
            ),
        ]
        if len(nodes) > rows:
            blocks.append(Sentence(f"and {len(nodes) - rows} more nodes, no slower", "faint"))
        blocks += [Sentence(text, "bad") for text in node_view.silences(newest.nodes)]
        if self.deaf:
            blocks.append(Sentence(f"Commits are not told: {self.deaf}", "warn"))
        return Answer(blocks, facts, [f"node/{node.node_name}" for node in nodes])

    def _facts(self, nodes: pb.ListNodesResponse, commits: Sequence[Commit]) -> dict[str, str]:
        lags = sorted(each.behind_seconds for each in nodes.nodes if not node_view.no_lag(each))
        off = len(nodes.nodes) - len(lags)
        lag = [f"half {seconds(share(lags, 0.5))}, slowest {seconds(lags[-1])}"] if lags else []
        lag += [f"{count(off, 'node')} disconnected, whose lag is not known"] if off else []
        times = sorted(each.event_to_commit for each in commits if each.event_to_commit)
        half, most = (share(times, 0.5), share(times, 0.99)) if times else (0, 0)
        return {
            "revision": f"{nodes.head_rev}, {self._rate():.1f} changes/s",
            "agents": node_view.states(nodes.nodes),
            "lag": "; ".join(lag) or "-",
            "event to kernel": f"half {nanoseconds(int(half))}, 99 of 100 {nanoseconds(int(most))}" if times else "-",
            "commits": f"{len(commits) / self._span:.1f}/s over {self._span:.0f} s",
        }

    def _rate(self) -> float:
        """Revisions per second between the two samples."""
        first, last = self._samples[0], self._samples[-1]
        passed = last.at - first.at
        return max(0, last.nodes.head_rev - first.nodes.head_rev) / passed if passed > 0 else 0.0

    def _row(self, node: pb.NodeStatus, head: int, commits: Sequence[Commit]) -> Sequence[Cell | str]:
        own = [each for each in commits if each.node == node.node_name]
        lacking, number = max(0, head - node.applied_rev), node_view.failing(node)
        return (
            node.node_name,
            node_view.state(node),
            node_view.behind(node),
            Cell(f"-{lacking}" if lacking else "-", "warn" if lacking else "faint"),
            f"{len(own) / self._span:.1f}",
            nanoseconds(max((each.took for each in own), default=0)) if own else "-",
            Cell(str(number), "bad" if number else "faint"),
        )


def _place(node: pb.NodeStatus) -> tuple[bool, float, int]:
    """Those of which it is not known how slow they are come first."""
    return not node_view.no_lag(node), -node.behind_seconds, -node_view.failing(node)


def share(ordered: Sequence[float], part: float) -> float:
    """The value that this part of them does not exceed."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
