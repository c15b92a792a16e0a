"""How long changes take that a replica sends: on this node by stage, and from the API event to this kernel.

The stages are of this machine's clock. The whole is of two: the control plane's says when the event came, this one's
when the kernel had it; less than nothing counts as nothing. Called by `nodeagent.metrics.registry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from deltaplane.durations import trace_id
from deltaplane.stages import STAGE_BOUNDS, Stages
from deltaplane.v1 import delta_pb2 as pb

STAGES = ("receive", "resolve", "commit")


class Delivery(Collector):
    """Both metrics. One observation for each commit of a change, by the oldest event among its causes.

    A trace that shows the commit is the exemplar of what is observed.
    """

    def __init__(self) -> None:
        text = "Time of each stage of a change on this node: it waits, is resolved, and is written to the kernel."
        self._stages = Stages("deltaplane_agent_stage_seconds", text, STAGES, STAGE_BOUNDS)
        text = "From the API event of a change, by the control plane's clock, to the kernel, by this machine's."
        self._whole = Stages("deltaplane_agent_propagation_seconds", text)

    def delivered(self, report: pb.CommitReport, causes: Iterable[pb.Cause], now: int) -> None:
        """These changes are in the kernel at `now`, Unix nanoseconds."""
        of, known = self._stages.of, list(causes)
        trace = next((trace_id(cause.traceparent) for cause in known if cause.traceparent), "")
        of["receive"].observe(report.queued_ns / 1e9, trace)
        of["resolve"].observe(report.resolve_ns / 1e9, trace)
        of["commit"].observe(report.commit_ns / 1e9, trace)
        events = [cause.event_unix_nano for cause in known if cause.event_unix_nano]
        if events:
            self._whole.of[""].observe(max(0, now - min(events)) / 1e9, trace)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        yield from self._stages.collect()
        yield from self._whole.collect()
