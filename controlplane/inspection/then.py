"""Services as a node has them, which may be those of an earlier revision: the directory of its explanations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.inspection.here import Here
from controlplane.inspection.past import Held, Past
from deltaplane.explain import Listed
from deltaplane.frontends import slot, slot_of
from deltaplane.model import EndpointSlice, Kind, ObjectKey, Service
from deltaplane.resolve import NodeView, frontends


class Then(Listed):
    """`unknown`: what was looked at and is as it is now, because the form of then is not kept."""

    def __init__(self, here: Here, view: NodeView, past: Past) -> None:
        super().__init__(here.cluster.frontends, {}, {}, view)
        self.unknown: dict[ObjectKey, None] = {}
        self.past, self.view = past, view
        self._found: dict[ObjectKey, Held] = {}
        self._changed = [key for key in past.changed if key.kind is Kind.SERVICE]  # their claims may be others now

    def holder(self, family: int, address: bytes, protocol: int, port: int) -> ObjectKey | None:
        wanted = slot(family, protocol, port, address)
        for key in self._changed:
            service = self._quietly(key)
            if service is not None and any(slot_of(frontend) == wanted for frontend in frontends(service)):
                return key
        found = super().holder(family, address, protocol, port)
        return None if found in self._changed else found

    def is_cluster_ip(self, address: bytes) -> bool:
        then = (self._quietly(key) for key in self._at(address))
        return any(service is not None and address in service.cluster_ips for service in then)

    def _at(self, address: bytes) -> Iterable[ObjectKey]:
        return dict.fromkeys((*self._changed, *super()._at(address)))

    def _quietly(self, key: ObjectKey) -> Service | None:
        """For a look at many Services, of which most have nothing to do with the answer."""
        found = self.past.at(key)
        return found if isinstance(found, Service) else None

    def service(self, key: ObjectKey) -> Service | None:
        return self.held(key).service

    def slices(self, key: ObjectKey) -> Sequence[EndpointSlice]:
        return self.held(key).slices

    def held(self, key: ObjectKey) -> Held:
        """The Service and its slices then."""
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self.past.held(key)
            self.unknown.update(dict.fromkeys(found.unknown))
        return found
