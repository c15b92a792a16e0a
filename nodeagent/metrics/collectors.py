"""Metrics that a backend or the program itself counts, read at a scrape. Registered by `metrics.registry`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nodeagent.dataplane.api import DriverMetric, Measured
from nodeagent.errors import KernelUnavailable
from nodeagent.stream.journal import Journal


class Figures(Collector):
    """Of one backend. While that cannot tell, there are none, and the rest of the page is as always.

    While it is `busy` with a call on another thread, they are those of the last scrape before.
    """

    def __init__(self, backend: Measured, busy: Callable[[], bool] = lambda: False) -> None:
        self._backend = backend
        self._busy = busy
        self._last: list[DriverMetric] = []

    def collect(self) -> Iterator[Metric]:
        try:
            figures = self._last if self._busy() else list(self._backend.metrics())
        except KernelUnavailable:
            self._last = []
            return
        self._last = figures
        for name, text, counter, labels, values in figures:
            metric = (CounterMetricFamily if counter else GaugeMetricFamily)(name, text, labels=labels)
            for of, value in values:
                metric.add_metric(of, value)
            yield metric


class Failures(Collector):
    """Of the process's own tasks (deltaplane.supervise), by name."""

    def __init__(self, failures: Mapping[str, int]) -> None:
        self._failures = failures

    def collect(self) -> Iterator[Metric]:
        text = "Times a task of this process failed and was started anew."
        metric = CounterMetricFamily("deltaplane_task_failures", text, labels=["task"])
        for task, number in sorted(self._failures.items()):
            metric.add_metric([task], number)
        yield metric


class Crowded(Collector):
    """Of the HTTP addresses; `ended`: how many connections gave way."""

    def __init__(self, ended: Callable[[], int]) -> None:
        self._ended = ended

    def collect(self) -> Iterator[Metric]:
        text = "Connections to HTTP addresses that ended because one client had too many."
        yield CounterMetricFamily("deltaplane_http_connections_ended", text, value=self._ended())


class Kept(Collector):
    """Of the journal: whether a restart or a reboot would find what the kernel has."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterator[Metric]:
        journal, name = self._journal, "deltaplane_journal"
        text = "Times the state on disk could not be read or written."
        yield CounterMetricFamily(f"{name}_failures", text, value=journal.failures)
        text = "1 while what the kernel has is on disk."
        yield GaugeMetricFamily(f"{name}_kept", text, value=journal.kept)
        age = journal.age()
        if age is not None:
            yield GaugeMetricFamily(f"{name}_age_seconds", "Since the state on disk was last written.", value=age)
