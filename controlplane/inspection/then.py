"""Services as a node has them, which may be those of an earlier revision: the directory of its explanations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.inspection.basis import Held, held
from controlplane.inspection.here import Here
from deltaplane.explain import Listed
from deltaplane.frontends import slot, slot_of
from deltaplane.model import EndpointSlice, Kind, ObjectKey, Service
from deltaplane.resolve import NodeView, frontends


class Then(Listed):
    """`newer`: what of the answers is of a later revision, because the earlier form is no longer kept."""

    def __init__(self, here: Here, view: NodeView, rev: int) -> None:
        super().__init__(here.cluster.frontends, {}, {}, view)
        self.newer: list[str] = []
        self._here, self._rev = here, rev
        self._found: dict[ObjectKey, Held] = {}
        self._changed = self._since()

    def _since(self) -> dict[ObjectKey, None]:
        """The Services that changed after the revision: their claims may be others now."""
        log = self._here.cluster.log
        if not log.holds(self._rev):
            self.newer.append(f"what changed since revision {self._rev} is not kept")
            return {}
        changes = (change for batch in log.between(self._rev, log.head) for change in batch.changes)
        return {change.key: None for change in changes if change.key.kind is Kind.SERVICE}

    def holder(self, family: int, address: bytes, protocol: int, port: int) -> ObjectKey | None:
        wanted = slot(family, protocol, port, address)
        for key in self._changed:
            service = self.service(key)
            if service is not None and any(slot_of(frontend) == wanted for frontend in frontends(service)):
                return key
        found = super().holder(family, address, protocol, port)
        return None if found in self._changed else found

    def is_cluster_ip(self, address: bytes) -> bool:
        then = (self.service(key) for key in self._at(address))
        return any(service is not None and address in service.cluster_ips for service in then)

    def _at(self, address: bytes) -> Iterable[ObjectKey]:
        return dict.fromkeys((*self._changed, *super()._at(address)))

    def service(self, key: ObjectKey) -> Service | None:
        return self._held(key).service

    def slices(self, key: ObjectKey) -> Sequence[EndpointSlice]:
        return self._held(key).slices

    def _held(self, key: ObjectKey) -> Held:
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = held(self._here, key, self._rev)
            self.newer.extend(found.newer)
        return found
