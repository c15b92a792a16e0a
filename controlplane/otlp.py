"""Traces through an OTLP collector (`trace` says what is in them). It knows OpenTelemetry and no streams.

A collector that is absent or slow costs spans only (`otlp_export`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter

import deltaplane
from controlplane.causes import Causes, OfCauses
from controlplane.otlp_export import QuietExporter, Sender
from controlplane.otlp_spans import Attributes, Spans, of_traceparent, to_traceparent
from controlplane.slowest import Found, Slowest
from controlplane.trace import NodeCommit
from deltaplane.panel import in_panel
from deltaplane.v1 import delta_pb2 as pb

MOST_NODES = 64  # in one trace that are there because they fail or are late: an object may fail everywhere
SLOW_NS = 1_000_000_000
PROBE_SECONDS = 5.0  # while the collector is away, one change in so long is traced, to see whether it answers again


class OtlpTracing:
    """Tracing through an OTLP gRPC collector (Jaeger, the OpenTelemetry Collector) at HOST:PORT."""

    listens = True

    def __init__(self, endpoint: str, ratio: float, exporter: SpanExporter | None = None) -> None:
        exporter = exporter or OTLPSpanExporter(endpoint=f"http://{endpoint}", insecure=True, timeout=5)
        resource = Resource.create({"service.name": "deltaplane", "service.version": deltaplane.__version__})
        self.exporter = QuietExporter(exporter, endpoint)
        self._sender = Sender(self.exporter)
        self._spans = Spans(self._sender, resource, "deltaplane")
        self._ratio, self._sampled_at = ratio, float("-inf")
        self._slowest = Slowest()
        self._traces = OfCauses(traces_of)
        for noisy in ("opentelemetry.exporter", "opentelemetry.sdk"):  # QuietExporter logs it once
            logging.getLogger(noisy).setLevel(logging.CRITICAL)

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        if not event_ns or random.random() >= self._ratio or not self._worthwhile():
            return ""
        root = self._spans.emit("api event", event_ns, ingested_ns, {"deltaplane.object": name})
        self._spans.emit("ingest", event_ns, ingested_ns, parent=root)
        return to_traceparent(root)

    def _worthwhile(self) -> bool:
        """Whether somebody may take the trace."""
        now = time.monotonic()
        if self.exporter.away and now - self._sampled_at < PROBE_SECONDS:
            return False
        self._sampled_at = now
        return True

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        self._show(self._slowest.overdue(sealed_ns))
        for cause in causes:
            if cause.traceparent:
                root = of_traceparent(cause.traceparent)
                self._spans.emit("batch", cause.ingested_unix_nano, sealed_ns, parent=root)

    def committed(self, commit: NodeCommit) -> None:
        if traces := self._traces(commit.causes):  # most commits are in none
            self._hear(traces, commit, commit.took_ns)

    def _hear(self, traces: Sequence[str], commit: NodeCommit, took_ns: int) -> None:
        odd = commit.failed or took_ns > SLOW_NS
        for traceparent in traces:
            reported = in_panel(traceparent, commit.node, commit.nodes) or (odd and self._has_room(traceparent))
            if reported:
                self._node_spans(traceparent, commit)
            self._show(self._slowest.heard(traceparent, commit, took_ns, reported=reported))

    def _has_room(self, traceparent: str) -> bool:
        return self._slowest.reported(traceparent) < MOST_NODES

    def _show(self, slowest: Iterable[Found]) -> None:
        for found in slowest:
            self._node_spans(*found)

    def _node_spans(self, traceparent: str, commit: NodeCommit) -> None:
        """A commit of several traced changes is in each of their traces, and links to the others."""
        others = sorted({*self._traces(commit.causes)} - {traceparent})
        keys: Attributes = {"deltaplane.node": commit.node, "deltaplane.rev": commit.report.to_rev}
        at = commit.received_ns
        root, linked = of_traceparent(traceparent), [of_traceparent(each) for each in others]
        send = self._spans.emit("send", commit.emitted_ns, at, keys, parent=root, linked=linked)
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
            self._spans.emit(stage, at, at + took, attributes, parent=send)
            at += took

    def close(self) -> None:
        self._show(self._slowest.rest())
        self._sender.close()


def traces_of(causes: Causes) -> tuple[str, ...]:
    """Those that are traced, by their traceparents."""
    return tuple(cause.traceparent for cause in causes if cause.traceparent)
