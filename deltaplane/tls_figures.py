"""How a program's certificates fare, for its metrics page. Registered by both programs' `main`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deltaplane.certificates import Unusable
from deltaplane.tls import Source


class Certificates(Collector):
    """Read by scrapes, from any thread."""

    def __init__(self, kept: Source) -> None:
        self._kept = kept

    def collect(self) -> Iterator[Metric]:
        with suppress(Unusable):  # there is none yet
            self._kept.get()  # an agent with a long stream looks at no other time
        name = "deltaplane_certificate"
        text = "Changes of certificate, key or CA bundle that could not be used."
        yield CounterMetricFamily(f"{name}_failures", text, value=self._kept.failures)
        text = "1 while the files cannot be used and what they said before is, or while what is used has ended."
        yield GaugeMetricFamily(f"{name}_stale", text, value=bool(self._kept.complaint))
        text = "When the certificate in use ends, in Unix seconds; infinite: there is none."
        yield GaugeMetricFamily(f"{name}_end_timestamp_seconds", text, value=self._kept.expires)
