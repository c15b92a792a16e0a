"""The results of health checks as numbers, for /metrics/slis (KEP-3466), with the names every Kubernetes component has.

`nodeagent.web.pages` owns one and tells it of each check. As in kube-proxy there is one check behind the metrics
address's /healthz, "ping", which succeeds where anything answers at all; whether changes get through is what the
health address says.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics import Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

_START = "process_start_time_seconds"


class _Started(Collector):
    """When this process began, alone among the library's numbers of a process."""

    def collect(self) -> Iterator[Metric]:
        return (metric for metric in ProcessCollector(registry=None).collect() if metric.name == _START)


class Slis:
    """`registry` has the last result and the number of results of each check."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        text = "This metric records the result of a single healthcheck."
        self._last = Gauge("kubernetes_healthcheck", text, ("name", "type"), registry=self.registry)
        text = "This metric records the results of all healthcheck."
        labels = ("name", "type", "status")
        self._all = Counter("kubernetes_healthchecks_total", text, labels, registry=self.registry)
        self.registry.register(_Started())

    def checked(self, name: str, page: str, *, fine: bool) -> None:
        """A check was made by a request for this page, "healthz" for instance."""
        self._last.labels(name, page).set(fine)
        self._all.labels(name, page, "success" if fine else "error").inc()
