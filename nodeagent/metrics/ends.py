"""How streams fare that do not go on, on the page of metrics. Part of `metrics.registry`."""

from __future__ import annotations

from prometheus_client.metrics import Counter
from prometheus_client.registry import CollectorRegistry


class Ends:
    """Counted by `stream.client` and the agent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Streams, and attempts at one, that ended, by reason."
        self._ends = Counter("deltaplane_streams_ended_total", text, ("reason",), registry=registry)
        text = "Pauses before the next stream that ended early: token, certificate, key or CA bundle had changed."
        self._early = Counter("deltaplane_stream_early_retries_total", text, registry=registry)
        text = "What streams had that was wrong, by code."
        self._reports = Counter("deltaplane_stream_reports_total", text, ("code",), registry=registry)

    def ended(self, reason: str) -> None:
        """A stream, or an attempt at one, ended (nodeagent.stream.ends)."""
        self._ends.labels(reason).inc()

    def early(self) -> None:
        """This agent's own files have changed, and the next attempt follows at once (stream.waiting)."""
        self._early.inc()

    def reported(self, code: str) -> None:
        """The session said something that an operator should know (stream.events.Report)."""
        self._reports.labels(code).inc()
