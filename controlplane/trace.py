"""One trace per sampled change: API event -> ingest -> batch -> send -> per node receive, resolve, kernel commit, ack.

The control plane emits every span, the nodes' ones from the durations in their Acks, so agents need no exporter and
clock skew cannot enter: a node's spans are placed on this clock, between the send and the Ack, with half the round trip
on each side. Knows OpenTelemetry; knows nothing of streams. A collector that is absent or slow costs nothing but spans.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

from msgspec import Struct
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import deltaplane
from deltaplane.logs import event
from deltaplane.v1 import delta_pb2 as pb

log = logging.getLogger(__name__)

PANEL = 8  # nodes that report a sampled change; beyond it only the slow and the failing do
SLOW_NS = 1_000_000_000

Attributes = dict[str, str | int | bool]


class Tracing(Protocol):
    """Where sampled changes are told of. `NoTracing` where no collector is configured."""

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        """Decides on a change; gives the traceparent of its root span, or "" when it is not sampled."""

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        """The causes' changes now have a revision and wait for their streams."""

    def committed(self, commit: NodeCommit) -> None:
        """A node acknowledged a Delta."""

    def close(self) -> None:
        """Sends what is left, for a second at most."""


class NodeCommit(Struct, frozen=True):
    """One Delta on one node: wall-clock nanoseconds of this process, and the node's own durations."""

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

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        return ""

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        pass

    def committed(self, commit: NodeCommit) -> None:
        pass

    def close(self) -> None:
        pass


class OtlpTracing:
    """Tracing through an OTLP gRPC collector (Jaeger, the OpenTelemetry Collector) at HOST:PORT."""

    def __init__(self, endpoint: str, ratio: float, exporter: SpanExporter | None = None) -> None:
        exporter = exporter or OTLPSpanExporter(endpoint=f"http://{endpoint}", insecure=True, timeout=5)
        resource = Resource.create({"service.name": "deltaplane", "service.version": deltaplane.__version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._processor = BatchSpanProcessor(
            QuietExporter(exporter, endpoint), schedule_delay_millis=500, max_queue_size=8192
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("deltaplane")
        self._ratio = ratio
        for noisy in ("opentelemetry.exporter", "opentelemetry.sdk"):  # QuietExporter says it once
            logging.getLogger(noisy).setLevel(logging.CRITICAL)

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        if not event_ns or random.random() >= self._ratio:
            return ""
        root = self._tracer.start_span("api event", start_time=event_ns, attributes={"deltaplane.object": name})
        context = root.get_span_context()
        traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        root.end(ingested_ns)
        self._span(traceparent, "ingest", event_ns, ingested_ns)
        return traceparent

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        for cause in causes:
            if cause.traceparent:
                self._span(cause.traceparent, "batch", cause.ingested_unix_nano, sealed_ns)

    def committed(self, commit: NodeCommit) -> None:
        for cause in commit.causes:
            if cause.traceparent and self._reports(cause.traceparent, commit):
                self._node_spans(cause, commit)

    def _reports(self, traceparent: str, commit: NodeCommit) -> bool:
        slow = commit.acked_ns - commit.sent_ns > SLOW_NS
        return commit.failed or slow or in_panel(traceparent, commit.node, commit.nodes)

    def _node_spans(self, cause: pb.Cause, commit: NodeCommit) -> None:
        keys: Attributes = {"deltaplane.node": commit.node, "deltaplane.rev": commit.report.to_rev}
        parent = self._span(cause.traceparent, "send", commit.emitted_ns, commit.received_ns, keys)
        at = commit.received_ns
        kernel: Attributes = {
            **keys,
            "deltaplane.kernel.messages": commit.report.kernel_messages,
            "deltaplane.kernel.elements": commit.report.kernel_elements,
            "deltaplane.failed": commit.failed,
        }
        for stage, took, attributes in (
            ("receive", commit.report.queued_ns, keys),
            ("resolve", commit.report.resolve_ns, keys),
            ("kernel commit", commit.report.commit_ns, kernel),
            ("ack", max(0, commit.acked_ns - commit.committed_ns), keys),
        ):
            self._span(parent, stage, at, at + took, attributes)
            at += took

    def _span(self, parent: str, name: str, start_ns: int, end_ns: int, attributes: Attributes | None = None) -> str:
        """Emits one finished span; gives its own traceparent. A negative duration (clock step) is clamped to zero."""
        context = TraceContextTextMapPropagator().extract({"traceparent": parent})
        span = self._tracer.start_span(name, context=context, start_time=start_ns, attributes=attributes)
        span.end(max(start_ns, end_ns))
        ids = span.get_span_context()
        return f"00-{ids.trace_id:032x}-{ids.span_id:016x}-01"

    def close(self) -> None:
        self._processor.force_flush(timeout_millis=1000)
        self._provider.shutdown()


def in_panel(traceparent: str, node: str, nodes: int) -> bool:
    """Whether the node is among those that report this trace: a hash of both, so the panel differs by trace."""
    return nodes <= PANEL or crc32(f"{traceparent}{node}".encode()) % nodes < PANEL


class QuietExporter(SpanExporter):
    """Says once that the collector does not answer and once that it does again; drops spans meanwhile."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - the data path must not feel a collector, whatever it raises
            result = SpanExportResult.FAILURE
        failing = result is not SpanExportResult.SUCCESS
        if failing != self._failing:
            self._failing = failing
            level = logging.WARNING if failing else logging.INFO
            name = "trace collector does not answer; spans are dropped" if failing else "trace collector answers again"
            event(log, level, name, endpoint=self._endpoint)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 1000) -> bool:
        return self._exporter.force_flush(timeout_millis)
