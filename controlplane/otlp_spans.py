"""Finished spans, as the SDK's processors and exporters take them. Called by `otlp`.

All times of a span are known when it is made here. The SDK's tracer is for spans that are under way, and takes seven
times as long: it asks a sampler, locks, and checks and copies attributes, for each. Both give the same to an exporter.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, TraceFlags

Attributes = dict[str, str | int | bool]
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Spans:
    """Gives each to the processor."""

    def __init__(self, processor: SpanProcessor, resource: Resource, scope: str) -> None:
        self._processor, self._resource = processor, resource
        self._scope, self._ids = InstrumentationScope(scope), RandomIdGenerator()

    def emit(
        self,
        name: str,
        start_ns: int,
        end_ns: int,
        attributes: Attributes | None = None,
        *,
        parent: SpanContext | None = None,
        linked: Sequence[SpanContext] = (),
    ) -> SpanContext:
        """A span that has ended; returns what its children have as `parent`. Without one it begins a trace.

        A negative duration (clock step) becomes zero.
        """
        trace = self._ids.generate_trace_id() if parent is None else parent.trace_id
        context = _context(trace, self._ids.generate_span_id())
        span = ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes or {},
            links=[Link(each) for each in linked],
            start_time=start_ns,
            end_time=max(start_ns, end_ns),
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)
        return context


def to_traceparent(span: SpanContext) -> str:
    """As W3C writes it: 00-TRACE-SPAN-FLAGS."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-01"


def of_traceparent(text: str) -> SpanContext:
    """The span that was written so."""
    _, trace, span, _ = text.split("-")
    return _context(int(trace, 16), int(span, 16))


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=False, trace_flags=_SAMPLED)
