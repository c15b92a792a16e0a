"""One trace per sampled change: API event -> ingest -> batch -> send -> per node receive, resolve, kernel commit, ack.

The control plane emits every span. It makes the spans of nodes from the durations in their Acks, so agents need no
exporter and clock skew has no effect: a node's spans lie on this clock between the send and the Ack, with half the
round trip on each side. `otlp` sends them, and is imported only with a collector: its library is a sixth of a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from deltaplane.v1 import delta_pb2 as pb


class Tracing(Protocol):
    """Takes sampled changes. `NoTracing` is used without a collector. `listens`: whether `committed` has any effect."""

    listens: bool

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        """Decides whether to sample a change; returns the traceparent of its root span, or "" if it is not sampled."""

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        """The changes with these causes have a revision now."""

    def committed(self, commit: NodeCommit) -> None:
        """A node acknowledged a Delta."""

    def close(self) -> None:
        """Sends what is left, for a second at most."""


class NodeCommit(Struct, frozen=True):
    """One commit on one node: wall-clock nanoseconds of this machine, and the node's durations."""

    node: str
    nodes: int  # how many nodes there are
    causes: tuple[pb.Cause, ...]
    report: pb.CommitReport
    emitted_ns: int  # when the Delta was made
    sent_ns: int  # when it was given to this node's stream
    acked_ns: int
    failed: bool

    @property
    def on_node_ns(self) -> int:
        """From the arrival of the Delta on the node to the sending of its Ack."""
        report = self.report
        return report.queued_ns + report.resolve_ns + report.commit_ns + report.ack_delay_ns

    @property
    def took_ns(self) -> int:
        """From the sending to the Ack, without the time for which the node held that back."""
        return self.acked_ns - self.sent_ns - self.report.ack_delay_ns

    @property
    def received_ns(self) -> int:
        """When the node received it, on this clock."""
        return self.sent_ns + max(0, self.acked_ns - self.sent_ns - self.on_node_ns) // 2

    @property
    def committed_ns(self) -> int:
        """When it was in the kernel, on this clock."""
        report = self.report
        return min(self.acked_ns, self.received_ns + report.queued_ns + report.resolve_ns + report.commit_ns)


class NoTracing:
    """Samples nothing."""

    listens = False

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        return ""

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        pass

    def committed(self, commit: NodeCommit) -> None:
        pass

    def close(self) -> None:
        pass
