"""Sends spans to an OTLP collector, from a thread of its own. One that is away or slow costs spans only.

What waits is bounded. While the collector does not answer, spans are dropped and counted, and `away` says so: whoever
makes spans then makes no more than finds out when it answers again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deltaplane.logs import event
from deltaplane.once import Once

log = logging.getLogger(__name__)

WAITING = 8192  # spans
CLOSE_SECONDS = 1.0


class QuietExporter(SpanExporter, Collector):
    """Passes spans on; logs the beginning and the end of a time in which the collector does not answer.

    `exported` and `dropped` are written by the thread that exports alone.
    """

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self.away = self.closing = False
        self.exported = self.dropped = self.refused = 0  # spans; `refused`: there were too many
        self._exporter, self._endpoint = exporter, endpoint
        self._said = Once[str]()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        if not (self.closing and self.away):
            with suppress(Exception):  # the data path must not feel a collector, whatever it raises
                result = self._exporter.export(spans)
        self._note(len(spans), done=result is SpanExportResult.SUCCESS)
        return result

    def _note(self, spans: int, *, done: bool) -> None:
        self.away = not done
        if done:
            self.exported += spans
            if self._said.clear(self._endpoint):
                event(log, logging.INFO, "trace collector answers again", endpoint=self._endpoint, dropped=self.dropped)
            return
        self.dropped += spans
        if self._said.note(self._endpoint):
            what = "trace collector does not answer; hardly anything is traced until it does"
            event(log, logging.WARNING, what, endpoint=self._endpoint)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 1000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
        text = "Spans for the trace collector, by what became of them."
        spans = CounterMetricFamily("deltaplane_trace_spans", text, labels=["result"])
        spans.add_metric(["exported"], self.exported)
        spans.add_metric(["dropped"], self.dropped + self.refused)
        yield spans
        text = "1 while the trace collector does not answer."
        yield GaugeMetricFamily("deltaplane_trace_collector_away", text, value=self.away)


class Sender(BatchSpanProcessor):
    """Takes spans that have ended, WAITING at most, and gives them to the exporter every half second."""

    def __init__(self, exporter: QuietExporter) -> None:
        super().__init__(exporter, schedule_delay_millis=500, max_queue_size=WAITING)
        self._quiet = exporter
        self._taken = 0

    def on_end(self, span: ReadableSpan) -> None:
        quiet = self._quiet
        if self._taken - quiet.exported - quiet.dropped >= WAITING:  # before the library does, which counts nothing
            quiet.refused += 1
            return
        self._taken += 1
        super().on_end(span)

    def close(self) -> None:
        """Sends what is left, for a second at most. The library's own ways out wait for the collector."""
        self._quiet.closing = True
        thread = threading.Thread(target=self._leave, name="last spans", daemon=True)
        thread.start()
        thread.join(CLOSE_SECONDS)

    def _leave(self) -> None:
        self.force_flush()
        super().shutdown()  # type: ignore[no-untyped-call]
