"""The readiness gate in figures: what `setter` and `writer` count, read at a scrape.

Pods that wait are known to every replica; what is set and who is left out, to the one that holds the Lease.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

REASONS = ("Programmed", "NodesLeftOut", "NoService")


class GateFigures(Collector):
    """`waiting`: Pods whose gate is to be set.

    A setter that runs shows `since` (when each Pod was first seen to wait, by `clock`) and `left_out` (nodes).
    """

    def __init__(self, waiting: Callable[[], int], clock: Callable[[], float]) -> None:
        self.set_ = Counter[str](dict.fromkeys(REASONS, 0))
        self.failures = 0
        self.since: Callable[[], Mapping[str, float]] = dict
        self.left_out: Callable[[], Collection[str]] = tuple
        self._waiting, self._clock = waiting, clock

    def over(self) -> None:
        """The setter's term is over."""
        self.since, self.left_out = dict, tuple

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
        gate = "deltaplane_gate"
        yield GaugeMetricFamily(f"{gate}_pods_waiting", "Pods that lack only their gate.", value=self._waiting())
        now, since = self._clock(), self.since().values()
        text = "For how long the first of them has waited; 0 at replicas without the Lease."
        yield GaugeMetricFamily(f"{gate}_longest_wait_seconds", text, value=max(0.0, now - min(since, default=now)))
        text = "Nodes that new Pods are not waited for, since they lack all of them."
        yield GaugeMetricFamily(f"{gate}_nodes_left_out", text, value=len(self.left_out()))
        written = CounterMetricFamily(f"{gate}_pods_set", "Gates that were set, by reason.", labels=["reason"])
        for reason, number in sorted(self.set_.items()):
            written.add_metric([reason], number)
        yield written
        text = "Writes of gates that failed; each is tried again."
        yield CounterMetricFamily(f"{gate}_write_failures", text, value=self.failures)
