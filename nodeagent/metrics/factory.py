"""Makes metrics on a registry, with a child for each address family where they have that label."""

from __future__ import annotations

from typing import TypeVar

from prometheus_client.metrics import Counter, Gauge, Histogram
from prometheus_client.registry import CollectorRegistry

from deltaplane.durations import DURATIONS
from deltaplane.model import Family

M = TypeVar("M", Gauge, Counter, Histogram)
FAMILIES = {int(Family.IPV4): "IPv4", int(Family.IPV6): "IPv6"}
_LABELS = ("ip_family",)


class Factory:
    """Families are 4 and 6; buckets are seconds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self._registry)

    def gauges(self, name: str, text: str) -> dict[int, Gauge]:
        return _by_family(Gauge(name, text, _LABELS, registry=self._registry))

    def counters(self, name: str, text: str) -> dict[int, Counter]:
        return _by_family(Counter(name, text, _LABELS, registry=self._registry))

    def histograms(self, name: str, text: str) -> dict[int, Histogram]:
        return _by_family(Histogram(name, text, _LABELS, buckets=DURATIONS, registry=self._registry))

    def codes(self, name: str, text: str) -> dict[int, Counter]:
        """By the HTTP status of an answer."""
        metric = Counter(name, text, ("code",), registry=self._registry)
        return {code: metric.labels(str(code)) for code in (200, 503)}


def _by_family(metric: M) -> dict[int, M]:
    return {family: metric.labels(label) for family, label in FAMILIES.items()}
