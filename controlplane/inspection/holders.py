"""Which Services have an address in a slice, and which slices a Service has, without a look at all slices.

Made when the first question comes, brought up to date by the log when the next one does: each question costs what has
changed since. What left a Service is not taken out, since a change does not say what was there before: who reads looks
at the slices themselves. When that makes up half of it, it is made anew.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from deltaplane.model import EndpointSlice, Kind, ObjectKey, ServiceName

if TYPE_CHECKING:
    from controlplane.cluster import Cluster

SLACK = 1000  # addresses that may come before it is made anew, however few there were


class Holders:
    """Of one replica. 100,000 endpoints take about 15 MB, where anybody asks."""

    def __init__(self) -> None:
        self._services: dict[bytes, tuple[ServiceName, ...]] = {}
        self._slices: defaultdict[ServiceName, set[str]] = defaultdict(set)  # names
        self._epoch, self._at, self._first = b"", 0, 0
        self.built = 0  # how often all slices were read

    def at(self, cluster: Cluster, address: bytes) -> list[ServiceName]:
        """The Services that have the packed address, or had it a while ago."""
        self._follow(cluster)
        return list(self._services.get(address, ()))

    def slices_of(self, cluster: Cluster, name: ServiceName) -> list[EndpointSlice]:
        """The slices of a Service, by name."""
        self._follow(cluster)
        keys = (ObjectKey(Kind.ENDPOINT_SLICE, name[0], each) for each in sorted(self._slices.get(name, ())))
        found = (cluster.store.get(key) for key in keys)
        return [each for each in found if isinstance(each, EndpointSlice) and each.service == name[1]]

    def _follow(self, cluster: Cluster) -> None:
        log = cluster.log
        grown = len(self._services) > 2 * self._first + SLACK
        if not self.built or self._epoch != log.epoch or not log.holds(self._at) or grown:
            self._build(cluster)
        elif self._at < log.head:
            for batch in log.between(self._at, log.head):
                for change in batch.changes:
                    if isinstance(change.object, EndpointSlice):
                        self._note(change.object)
        self._epoch, self._at = log.epoch if cluster.ready else b"", log.head  # before the first state there is no log

    def _build(self, cluster: Cluster) -> None:
        self.built += 1
        self._services.clear()
        self._slices.clear()
        for key in cluster.store.keys(Kind.ENDPOINT_SLICE):
            found = cluster.store.get(key)
            if isinstance(found, EndpointSlice):
                self._note(found)
        self._first = len(self._services)

    def _note(self, piece: EndpointSlice) -> None:
        name = (piece.namespace, piece.service)
        names = self._slices[name]
        names.add(piece.name)
        for endpoint in piece.endpoints:
            held = self._services.get(endpoint.address, ())
            if name not in held:
                self._services[endpoint.address] = (*held, name)
