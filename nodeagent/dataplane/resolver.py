"""Services resolved one by one, so that a fault of one is its own failure; then each gets what is its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from deltaplane.forwarding import ServiceForwarding
from deltaplane.frontends import Frontends, slot
from deltaplane.model import EndpointSlice, Kind, ObjectKey, Service, ServiceName
from deltaplane.resolve import NodeView, resolve
from nodeagent.dataplane.outcome import Failed

API = ("default", "kubernetes")  # the Service of the API server
_API_SERVICE = ObjectKey(Kind.SERVICE, *API)
MAX_TEXT = 200  # characters of a failure's text


class Cluster(Protocol):
    """What is known of the cluster: `nodeagent.stream.mirror.Mirror`."""

    @property
    def services(self) -> Mapping[ServiceName, Service]: ...

    @property
    def invalid(self) -> Mapping[ObjectKey, str]: ...

    def slices_of(self, namespace: str, name: str) -> Sequence[EndpointSlice]: ...


class Resolver:
    """Remembers which Services could not be resolved; what the kernel has of those stays."""

    def __init__(self, mirror: Cluster, frontends: Frontends | None = None) -> None:
        self._mirror = mirror
        self._broken: dict[ObjectKey, Failed] = {}
        self._frontends = frontends or Frontends()
        self._frontends.forget()

    def resolve(self, services: Iterable[ServiceName], view: NodeView) -> list[ServiceForwarding]:
        """What these mean on this node, and those that get or lose an address by it; without what cannot be said."""
        keys = [ObjectKey(Kind.SERVICE, *name) for name in services]  # they stay: not between what is soon gone
        touched: set[ObjectKey] = self._guard_api() if _API_SERVICE in keys else set()
        for key in keys:
            touched |= self._claim(key)
        keys += touched.difference(keys)
        found = [self._one(key, view) for key in keys]
        return [self._frontends.grant(service) for service in found if service is not None]

    def resolve_all(self, view: NodeView) -> list[ServiceForwarding]:
        """What all Services there are mean on this node."""
        self._frontends.forget()
        self._guard_api()
        return self.resolve(self._mirror.services, view)

    def _claim(self, key: ObjectKey) -> AbstractSet[ObjectKey]:
        """Takes in which addresses and ports it asks for; gives others that this touches."""
        try:
            return self._frontends.put(key, self._mirror.services.get((key.namespace, key.name)))
        except Exception:  # noqa: BLE001 - `_one` finds the same, and tells it
            return set()

    def _guard_api(self) -> set[ObjectKey]:
        """Where the API server itself is: without it no replica hears what would give the address back.

        Whoever can write that Service's slices shall not take other Services' ClusterIPs away by it.
        """
        slices = self._mirror.slices_of(*API)
        return self._frontends.reserve(
            "where the API server of this cluster is",
            (
                slot(each.family, port.protocol, port.port, endpoint.address)
                for each in slices
                for port in each.ports
                for endpoint in each.endpoints
            ),
            clusterips=False,
        )

    def _one(self, key: ObjectKey, view: NodeView) -> ServiceForwarding | None:
        name, mirror = (key.namespace, key.name), self._mirror
        self._broken.pop(key, None)
        try:
            return resolve(key, mirror.services.get(name), mirror.slices_of(*name), view)
        except Exception as error:  # noqa: BLE001 - a fault of one object ends nothing else
            self._broken[key] = Failed(key, "INTERNAL", f"cannot be resolved: {error!r}"[:MAX_TEXT])
            return None

    def failures(self) -> Iterator[Failed]:
        """Objects that never get as far as the kernel."""
        yield from (Failed(key, "INVALID_OBJECT", wrong) for key, wrong in self._mirror.invalid.items())
        yield from self._broken.values()
        for lost in self._frontends.losses():
            yield Failed(lost.owner, "INVALID_OBJECT", str(lost))
