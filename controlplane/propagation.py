"""How long changes take to the kernels of the nodes, by stage, for the metrics page: ready for an objective (SLO).

It stands before the tracing, hears what that hears, and passes it on: a change when it has its revision, a commit when
its Ack comes. A commit costs a fixed number of additions, whatever number of nodes there is. Times are of this
machine's clock, as in the traces: a node's stages are the durations in its Acks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.causes import OfCauses
from controlplane.trace import NodeCommit, Tracing
from deltaplane.durations import trace_id
from deltaplane.stages import SLO_BOUNDS, STAGE_BOUNDS, Stages
from deltaplane.v1 import delta_pb2 as pb

SANE_TRIGGER_NS = 3_600 * 10**9  # an annotation that is older tells of another change, or of a clock that is wrong
STAGES = ("trigger", "ingest", "batch", "send", "receive", "resolve", "commit", "ack")


class Propagation(Collector):
    """Tracing that also counts. Durations are seconds; a clock that was set back makes none of less than nothing."""

    listens = True  # each commit counts

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        text = "Time of each stage of a change; those from send on once for each node and commit."
        self._stages = Stages("deltaplane_propagation_stage_seconds", text, STAGES, STAGE_BOUNDS)
        text = "From the API event of a change to its commit in the kernel of a node; once for each node and commit."
        self._whole = Stages("deltaplane_propagation_seconds", text, bounds=SLO_BOUNDS)
        of = self._stages.of
        self._send, self._receive, self._resolve = of["send"], of["receive"], of["resolve"]
        self._commit, self._ack = of["commit"], of["ack"]
        self._end_to_end = self._whole.of[""]
        self._ok = self._failed = 0
        self._oldest = OfCauses(_oldest)

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        return self._tracing.sample(name, event_ns, ingested_ns)

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        of = self._stages.of
        for cause in causes:
            event, ingested = cause.event_unix_nano, cause.ingested_unix_nano
            if not event:
                continue
            trace = trace_id(cause.traceparent)
            if 0 < cause.trigger_unix_nano <= event and event - cause.trigger_unix_nano <= SANE_TRIGGER_NS:
                of["trigger"].observe((event - cause.trigger_unix_nano) / 1e9, trace)
            of["ingest"].observe(max(0, ingested - event) / 1e9, trace)
            of["batch"].observe(max(0, sealed_ns - ingested) / 1e9, trace)
        self._tracing.batched(causes, sealed_ns)

    def committed(self, commit: NodeCommit) -> None:
        if commit.failed:
            self._failed += 1
        else:
            self._ok += 1
        self._count(commit)
        self._tracing.committed(commit)

    def _count(self, commit: NodeCommit) -> None:
        """The arithmetic of `NodeCommit`, with each field of the message read once: a read costs as much as a count."""
        report, acked = commit.report, commit.acked_ns
        oldest, trace = self._oldest(commit.causes)
        queued, resolve, write = report.queued_ns, report.resolve_ns, report.commit_ns
        on_node = queued + resolve + write
        way = max(0, acked - commit.sent_ns - on_node - report.ack_delay_ns) // 2
        committed = min(acked, commit.sent_ns + way + on_node)
        if commit.emitted_ns:
            self._send.observe(max(0, commit.sent_ns + way - commit.emitted_ns) / 1e9, trace)
        self._receive.observe(queued / 1e9, trace)
        self._resolve.observe(resolve / 1e9, trace)
        self._commit.observe(write / 1e9, trace)
        self._ack.observe(max(0, acked - committed) / 1e9, trace)
        if oldest:
            self._end_to_end.observe(max(0, committed - oldest) / 1e9, trace)

    def close(self) -> None:
        self._tracing.close()

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
        yield from self._stages.collect()
        yield from self._whole.collect()
        commits = CounterMetricFamily(
            "deltaplane_node_commits", "Commits that nodes acknowledged; failed: an object fails there.",
            labels=["result"],
        )  # fmt: skip
        commits.add_metric(["ok"], self._ok)
        commits.add_metric(["failed"], self._failed)
        yield commits


def _oldest(causes: Sequence[pb.Cause]) -> tuple[int, str]:
    """When the oldest change of a commit reached the control plane, Unix nanoseconds (0: none did), and the id of a
    trace that shows the commit."""
    oldest, trace = 0, ""
    for cause in causes:
        event = cause.event_unix_nano
        if event and (not oldest or event < oldest):
            oldest = event
        if not trace and cause.traceparent:
            trace = trace_id(cause.traceparent)
    return oldest, trace
