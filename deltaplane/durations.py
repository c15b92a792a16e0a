"""A histogram's numbers, at the cost of one bisect for an observation. Used by both programs; read at a scrape.

A library histogram with labels costs several microseconds an observation, as much as writing an element to the kernel.
An observation with a trace's id leaves it as the exemplar of its bucket, which OpenMetrics shows: the newest stays.
Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

DURATIONS = tuple(0.001 * 2**power for power in range(-4, 18))
"""62.5 microseconds to 131 seconds; kube-proxy's own bounds (1 ms to 16.4 s) are among them."""

Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class Durations:
    """Observations per bucket (the last is beyond all bounds) and their sum, in seconds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self._shown: dict[int, tuple[str, float]] = {}  # by bucket: the trace and the seconds of its exemplar

    def observe(self, seconds: float, trace_id: str = "") -> None:
        """Counts one. `trace_id`: of the trace that shows it; empty: it is in none."""
        at = bisect_left(self.bounds, seconds)
        self.counts[at] += 1
        self.sum += seconds
        if trace_id:
            self._shown[at] = trace_id, seconds

    def __add__(self, other: Durations) -> Durations:
        both = Durations(self.bounds)
        both.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        both.sum = self.sum + other.sum
        both._shown = self._shown | other._shown
        return both

    def buckets(self) -> list[Bucket]:
        """Cumulative, as the exposition wants them."""
        names = (*map(floatToGoString, self.bounds), "+Inf")
        found: list[Bucket] = []
        for at, (name, count) in enumerate(zip(names, accumulate(self.counts), strict=True)):
            shown = self._shown.get(at)
            found.append((name, count) if shown is None else (name, count, _exemplar(*shown)))
        return found


def _exemplar(trace: str, seconds: float) -> Exemplar:
    return Exemplar({"trace_id": trace}, seconds)


def trace_id(traceparent: str) -> str:
    """Of a W3C traceparent, 00-TRACE-SPAN-FLAGS; empty for what is none."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""
