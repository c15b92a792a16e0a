"""Durations of commits, counted once and shown under several names: what makes a commit's measurement cost one bisect.

A library histogram with two family labels, three times over, costs 10 microseconds a commit, which is as much as
writing an element does. Called by `nodeagent.metrics.registry`; read by the registry at a scrape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from deltaplane.durations import Durations


class CommitDurations(Collector):
    """Commits of the whole state and of changes; every family has taken part in each."""

    def __init__(self, bounds: Sequence[float], families: Sequence[str]) -> None:
        self.whole = Durations(bounds)
        self.change = Durations(bounds)
        self._families = families

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """kube-proxy's three, each for every family, and one for the commits as such."""
        both = self.whole + self.change
        for name, text, durations in (
            ("sync_proxy_rules", "Time of a commit to the kernel.", both),
            ("sync_full_proxy_rules", "Time of a commit that compared the whole state.", self.whole),
            ("sync_partial_proxy_rules", "Time of a commit of a change.", self.change),
        ):
            metric = HistogramMetricFamily(f"kubeproxy_{name}_duration_seconds", text, labels=("ip_family",))
            for family in self._families:
                metric.add_metric((family,), durations.buckets(), durations.sum)
            yield metric
        name = "deltaplane_commit_duration_seconds"
        yield HistogramMetricFamily(name, "Time of a commit, both families.", both.buckets(), both.sum)
