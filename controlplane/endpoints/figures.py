"""The metrics of the endpoints controllers, read at the time of a scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.endpoints.runner import Runner


class EndpointsFigures(Collector):
    """What the controllers write, and what waits for them."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
        yield from self._counted()
        yield from self._queues()

    def _counted(self) -> Iterator[Metric]:
        text = "Writes of the endpoints controllers. needless: nothing had to be done any more."
        writes = CounterMetricFamily("deltaplane_endpoints_writes", text, labels=["resource", "verb", "result"])
        for labels, number in sorted(self._runner.writes.items()):
            writes.add_metric(list(labels), number)
        yield writes
        text = "Services that were brought up to date, or were not, by result."
        syncs = CounterMetricFamily("deltaplane_endpoints_syncs", text, labels=["controller", "result"])
        for pair, number in sorted(self._runner.syncs.items()):
            syncs.add_metric(list(pair), number)
        yield syncs

    def _queues(self) -> Iterator[Metric]:
        text = "Services that wait to be brought up to date."
        depth = GaugeMetricFamily("deltaplane_endpoints_queue_depth", text, labels=["controller"])
        text = "Services that failed and are tried again."
        failing = GaugeMetricFamily("deltaplane_endpoints_failing", text, labels=["controller"])
        text = "Seconds that bringing Services up to date took."
        seconds = CounterMetricFamily("deltaplane_endpoints_sync_seconds", text, labels=["controller"])
        running = {one.name: one for one in self._runner.controllers}
        for name in self._runner.names:
            one = running.get(name)
            depth.add_metric([name], len(one.queue) if one else 0)
            failing.add_metric([name], one.queue.failing if one else 0)
            seconds.add_metric([name], self._runner.seconds[name] + (one.seconds if one else 0.0))
        yield from (depth, failing, seconds)
