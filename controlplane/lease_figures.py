"""The metrics of the Leases that this replica takes part in, read at the time of a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.lease import Lease


class LeaseFigures(Collector):
    """`leases`: those that there are by now."""

    def __init__(self, leases: Callable[[], Iterable[Lease | None]]) -> None:
        self._leases = leases

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
        held = GaugeMetricFamily("deltaplane_lease_held", "1 while this replica holds the Lease.", labels=["lease"])
        losses = CounterMetricFamily("deltaplane_lease_losses", "How often this replica lost it.", labels=["lease"])
        text = "Seconds for which another replica counts as the holder, unless it renews; as this one saw it last."
        other = GaugeMetricFamily("deltaplane_lease_other_seconds", text, labels=["lease", "holder"])
        for lease in self._leases():
            if lease is None:
                continue
            held.add_metric([lease.name], lease.held)
            losses.add_metric([lease.name], lease.losses)
            if lease.others:
                other.add_metric([lease.name, lease.holder], lease.left)
        yield from (held, losses, other)
