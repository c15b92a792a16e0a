"""A trace has a panel of the nodes, and always the slowest two and every failure; merged changes are linked."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence

import pytest
from google.protobuf.text_encoding import CEscape
from msgspec.structs import replace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, set_span_in_context
from prometheus_client import CollectorRegistry

from controlplane.otlp import MOST_NODES, OtlpTracing
from controlplane.otlp_export import WAITING, QuietExporter, Sender
from controlplane.otlp_spans import Attributes, Spans, of_traceparent, to_traceparent
from controlplane.slowest import MOST, PATIENCE_NS, Slowest
from controlplane.trace import NodeCommit
from deltaplane.durations import trace_id
from deltaplane.panel import PANEL
from deltaplane.v1 import delta_pb2 as pb
from tools.lab.client import until

MS = 10**6
BEGIN = 1_800_000_000 * 10**9
NODES = 100


class Traces:
    """Tracing of every change, with a collector in memory."""

    def __init__(self) -> None:
        self.collector = InMemorySpanExporter()
        self.tracing = OtlpTracing("nobody:1", 1.0, self.collector)

    def cause(self, at: int = BEGIN) -> pb.Cause:
        return pb.Cause(event_unix_nano=at, traceparent=self.tracing.sample("Service a/b", at, at + MS))

    def spans(self) -> Sequence[ReadableSpan]:
        """All of them, at the end."""
        self.tracing.close()
        return self.collector.get_finished_spans()

    def nodes(self) -> dict[str, list[str]]:
        """Nodes that have a span `kernel commit`, by trace, at the end."""
        self.tracing.close()
        return self.sent()

    def sent(self) -> dict[str, list[str]]:
        """Likewise so far."""
        found: dict[str, list[str]] = defaultdict(list)
        for span in self.collector.get_finished_spans():
            if span.name == "kernel commit":
                found[f"{span.context.trace_id:032x}"].append(str((span.attributes or {})["deltaplane.node"]))
        return found


def commit(number: int, *causes: pb.Cause, took: int = 10, nodes: int = NODES, failed: bool = False) -> NodeCommit:
    """Of node NUMBER, whose Ack came so many milliseconds after the sending."""
    report = pb.CommitReport(to_rev=7, queued_ns=MS, resolve_ns=MS, commit_ns=MS)
    times = {"emitted_ns": BEGIN + 2 * MS, "sent_ns": BEGIN + 3 * MS, "acked_ns": BEGIN + (3 + took) * MS}
    return NodeCommit(node=f"n{number}", nodes=nodes, causes=causes, report=report, failed=failed, **times)


@pytest.mark.parametrize("order", [1, -1])
def test_the_slowest_two_nodes_are_in_the_trace_once_whichever_came_first(order: int) -> None:
    traces = Traces()
    cause = traces.cause()
    for number in range(NODES)[::order]:
        traces.tracing.committed(commit(number, cause, took=10 + number))
    (nodes,) = traces.nodes().values()

    assert {"n98", "n99"} <= set(nodes)
    assert len(nodes) == len(set(nodes))
    assert len(nodes) < 4 * PANEL


def test_every_node_that_fails_is_in_the_trace() -> None:
    traces = Traces()
    cause = traces.cause()
    for number in range(NODES):
        traces.tracing.committed(commit(number, cause, failed=number % 10 == 0))
    (nodes,) = traces.nodes().values()

    assert {f"n{number}" for number in range(0, NODES, 10)} <= set(nodes)


def test_an_object_that_fails_everywhere_does_not_put_every_node_into_the_trace() -> None:
    traces = Traces()
    cause = traces.cause()
    for number in range(1000):
        traces.tracing.committed(commit(number, cause, failed=True, nodes=1000))
    (nodes,) = traces.nodes().values()

    assert MOST_NODES <= len(nodes) < MOST_NODES + 4 * PANEL


def test_where_some_node_never_answers_the_slowest_two_so_far_are_in_the_trace_at_the_end() -> None:
    traces = Traces()
    cause = traces.cause()
    for number in range(NODES - 1):
        traces.tracing.committed(commit(number, cause, took=10 + number))
    (nodes,) = traces.nodes().values()

    assert {"n97", "n98"} <= set(nodes)


def test_a_commit_of_several_changes_is_in_each_trace_and_links_to_the_others() -> None:
    traces = Traces()
    first, second, plain = traces.cause(), traces.cause(BEGIN + MS), pb.Cause(event_unix_nano=BEGIN)
    traces.tracing.committed(commit(1, first, second, plain, nodes=3))
    sends = {f"{span.context.trace_id:032x}": span for span in traces.spans() if span.name == "send"}

    assert set(sends) == {trace_id(first.traceparent), trace_id(second.traceparent)}
    for mine, other in ((first, second), (second, first)):
        (link,) = sends[trace_id(mine.traceparent)].links
        assert f"{link.context.trace_id:032x}" == trace_id(other.traceparent)


def test_what_waits_for_the_last_answer_is_bounded_in_number_and_time() -> None:
    slowest, found, one = Slowest(), [], commit(1)
    for number in range(MOST + 5):
        found += [*slowest.heard(f"t{number}", one, one.took_ns, reported=False), *slowest.overdue(one.acked_ns)]
    assert [trace for trace, _ in found] == [f"t{number}" for number in range(5)]
    assert len(slowest) == MOST

    late = commit(2, took=PATIENCE_NS // MS + 11)
    assert not slowest.heard("new", late, late.took_ns, reported=True)
    assert len(slowest.overdue(late.acked_ns)) == MOST
    assert len(slowest) == 1


def test_a_trace_that_some_node_never_answers_has_its_slowest_two_once_there_is_a_later_change() -> None:
    traces = Traces()
    cause = traces.cause()
    for number in range(NODES - 1):
        traces.tracing.committed(commit(number, cause, took=10 + number))
    traces.tracing.batched([], BEGIN + PATIENCE_NS + 20 * MS)
    until(lambda: {"n97", "n98"} <= set(traces.sent()[trace_id(cause.traceparent)]), 10)


def test_nodes_that_acknowledge_different_rounds_by_turns_are_each_in_the_traces_of_theirs() -> None:
    traces = Traces()
    first, second = (traces.cause(),), (traces.cause(BEGIN + MS),)
    for number in range(NODES):
        for causes in (first, second, ()):
            traces.tracing.committed(replace(commit(number, took=10 + number), causes=causes))
    found = traces.nodes()

    assert found.keys() == {trace_id(cause.traceparent) for cause in (*first, *second)}
    assert all(len(nodes) == len(set(nodes)) and {"n98", "n99"} <= set(nodes) for nodes in found.values())


def test_a_collector_gets_what_it_would_get_from_the_sdks_tracer() -> None:
    made, ended = Kept(), Kept()
    attributes: Attributes = {"one": 1, "name": "n", "failed": False}
    resource = Resource.create({"service.name": "test"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(ended)
    tracer, spans = provider.get_tracer("scope"), Spans(made, resource, "scope")

    other = tracer.start_span("other", start_time=BEGIN)
    other.end(BEGIN)
    root = tracer.start_span("root", start_time=BEGIN, attributes=attributes)
    context, links = set_span_in_context(root), [Link(other.get_span_context())]
    tracer.start_span("child", context, start_time=BEGIN + 1, links=links).end(BEGIN + 2)
    root.end(BEGIN + 3)
    away = spans.emit("other", BEGIN, BEGIN)
    mine = spans.emit("root", BEGIN, BEGIN + 3, attributes)
    spans.emit("child", BEGIN + 1, BEGIN + 2, parent=mine, linked=[away])

    assert made.encoded(0) == ended.encoded(0)
    assert made.encoded(1) == ended.encoded(2)
    assert made.encoded(2) == ended.encoded(1)
    assert of_traceparent(to_traceparent(mine)) == mine


class Kept(SpanProcessor):
    """Spans that have ended. `encoded`: one of them as a collector gets it, with ids that tell which span is meant."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    def encoded(self, number: int) -> str:
        text = str(encode_spans([self.spans[number]]))
        traces = list(dict.fromkeys(span.context.trace_id for span in self.spans))
        for trace in traces:
            text = text.replace(CEscape(trace.to_bytes(16, "big"), as_utf8=False), f"trace {traces.index(trace)}")
        for span in self.spans:
            text = text.replace(CEscape(span.context.span_id.to_bytes(8, "big"), as_utf8=False), f"span {span.name}")
        return text


class Away(InMemorySpanExporter):
    """A collector that does not answer while it is `away`."""

    away = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.away:
            raise OSError("nobody is there")
        return super().export(spans)


def test_a_collector_that_does_not_answer_costs_spans_alone() -> None:
    tracing = OtlpTracing("nobody:1", 1.0, Away())
    cause = pb.Cause(event_unix_nano=BEGIN, traceparent=tracing.sample("Service a/b", BEGIN, BEGIN))
    tracing.committed(commit(1, cause))
    tracing.close()


def test_hardly_anything_is_traced_while_the_collector_is_away_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collector = Away()
    traces = OtlpTracing("away:1", 1.0, collector)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            traces.exporter.export(traces_of(3))
        sampled = [traces.sample("Service a/b", BEGIN, BEGIN) for _ in range(100)]
        assert [text for text in sampled if text] == sampled[:1]  # to find out when it answers again
        collector.away = False
        traces.exporter.export(traces_of(3))
    assert all(traces.sample("Service a/b", BEGIN, BEGIN) for _ in range(5))
    said = [text for record in caplog.records if "endpoint=away:1" in (text := record.getMessage())]
    assert len(said) == 2, said  # another test's exporter may still be at work
    assert (figure(traces.exporter, "exported"), figure(traces.exporter, "dropped")) == (3, 9)
    traces.close()


def traces_of(number: int) -> Sequence[ReadableSpan]:
    return [ReadableSpan(f"span {each}") for each in range(number)]


def figure(exporter: QuietExporter, result: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(exporter)
    return registry.get_sample_value("deltaplane_trace_spans_total", {"result": result})


class Stuck(InMemorySpanExporter):
    """A collector that takes a call and never answers. `go` ends that."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.asked = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.go.wait(60)
        return SpanExportResult.FAILURE


def test_what_waits_for_a_collector_that_is_stuck_is_bounded_counted_and_does_not_hold_up_the_end() -> None:
    collector = Stuck()
    quiet = QuietExporter(collector, "nobody:1")
    sender, provider = Sender(quiet), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sender)
    tracer = provider.get_tracer("test")
    for _ in range(WAITING + 100):
        tracer.start_span("one").end()
    assert collector.asked.wait(10)
    assert (figure(quiet, "exported"), figure(quiet, "dropped")) == (0, 100)
    sender.close()
    assert not collector.go.is_set()
    collector.go.set()


def test_the_slowest_are_those_of_long_commits_not_those_that_waited_to_acknowledge() -> None:
    traces = Traces()
    cause = traces.cause()
    for number in range(NODES):
        patient = commit(number, cause, took=10 + number + 2000 * (number < 50))
        patient.report.ack_delay_ns = 2000 * MS * (number < 50)
        traces.tracing.committed(patient)
    (nodes,) = traces.nodes().values()

    assert {"n98", "n99"} <= set(nodes)
    assert len(nodes) < 4 * PANEL
