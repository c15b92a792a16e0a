"""How long endpoints take from their change to this kernel: `network_programming_duration_seconds` (5.3).

The moment of the change is what the endpoint controller wrote into the slice's annotation
(`endpoints.kubernetes.io/last-change-trigger-time`); it travels as a delta's causes, of which a merged delta has the
newest. As kube-proxy, this counts slices alone, leaves out those that are gone (their annotation tells of an earlier
change) and changes of before this process. The two clocks are of two machines: less than nothing counts as nothing.

Called by the agent (`triggers`) and by `nodeagent.metrics.registry`; it reads no clock. What the kernel refused waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from deltaplane.durations import Durations
from deltaplane.model import EndpointSlice, Kind, ObjectKey
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.mirror import Mirror

PROGRAMMING = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30)),  # kube-proxy's
    *(600, 1800, 3600),
)
"""Bounds of the histogram, seconds."""
MOST_WAITING = 1000  # while the kernel refuses; the oldest go


class Trigger(NamedTuple):
    """Endpoints of a Service in one family changed at this time, Unix nanoseconds."""

    family: int
    service: ObjectKey
    unix_nano: int


def triggers(causes: Iterable[pb.Cause], mirror: Mirror) -> list[Trigger]:
    """The moments these causes know, of slices the mirror has."""
    return [trigger for cause in causes if cause.trigger_unix_nano and (trigger := _trigger(cause, mirror)) is not None]


def _trigger(cause: pb.Cause, mirror: Mirror) -> Trigger | None:
    named = cause.object
    held = mirror.get(ObjectKey(Kind.ENDPOINT_SLICE, named.namespace, named.name))
    if int(named.kind) != Kind.ENDPOINT_SLICE or not isinstance(held, EndpointSlice):
        return None
    owner = ObjectKey(Kind.SERVICE, held.namespace, held.service)
    return Trigger(int(held.family), owner, cause.trigger_unix_nano)


class Programming(Collector):
    """The histogram, per family. `since`: Unix nanoseconds; what changed before does not count."""

    def __init__(self, bounds: Sequence[float], families: Mapping[int, str], since: int) -> None:
        self.waiting: deque[Trigger] = deque(maxlen=MOST_WAITING)
        self._since = since
        self._durations = {family: Durations(bounds) for family in families}
        self._families = families

    def want(self, arrived: Iterable[Trigger]) -> None:
        """These changes are on their way to the kernel."""
        self.waiting.extend(trigger for trigger in arrived if trigger.unix_nano > self._since)

    def programmed(self, failed: Collection[ObjectKey], now: int) -> None:
        """All that waits is in the kernel at `now`, Unix nanoseconds, except of these Services."""
        waiting = tuple(self.waiting)
        self.waiting.clear()
        for trigger in waiting:
            if trigger.service in failed:
                self.waiting.append(trigger)
            else:
                self._durations[trigger.family].observe(max(0, now - trigger.unix_nano) / 1e9)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        name = "kubeproxy_network_programming_duration_seconds"
        text = "From the change of an endpoint at the API server to the kernel."
        metric = HistogramMetricFamily(name, text, labels=("ip_family",))
        for family, durations in self._durations.items():
            metric.add_metric((self._families[family],), durations.buckets(), durations.sum)
        yield metric
