"""What a backend, or the program itself, counts, read when somebody scrapes. Registered by `metrics.registry`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nodeagent.dataplane.api import Measured
from nodeagent.errors import KernelUnavailable
from nodeagent.stream.journal import Journal


class Figures(Collector):
    """Of one backend. While that cannot tell, there are none, and the rest of the page is as always."""

    def __init__(self, backend: Measured) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Metric]:
        try:
            figures = list(self._backend.figures())
        except KernelUnavailable:
            return
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
