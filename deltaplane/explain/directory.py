"""What is looked up to explain a connection: whose an address and port is, and what that Service means on the node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from deltaplane.explain.answer import Near
from deltaplane.forwarding import Frontend, FrontendKind, ServiceForwarding
from deltaplane.frontends import Frontends, slot
from deltaplane.model import EndpointSlice, ObjectKey, Service, ServiceName, family_of, protocol_name
from deltaplane.resolve import NodeView, frontends, resolve
from deltaplane.views import frontend_text

MOST_NEAR = 5
NEAR_PORTS = 2  # how far a port may be off and still be near


class Directory(Protocol):
    """Services as one node has them."""

    def holder(self, family: int, address: bytes, protocol: int, port: int) -> ObjectKey | None:
        """The Service that has this address and port; no address: the node port."""

    def forwarding(self, key: ObjectKey) -> ServiceForwarding:
        """What it means on the node, without what is another's."""

    def service(self, key: ObjectKey) -> Service | None:
        """The Service itself."""

    def slices(self, key: ObjectKey) -> Sequence[EndpointSlice]:
        """Its EndpointSlices."""

    def is_cluster_ip(self, address: bytes) -> bool:
        """Whether it is a Service's ClusterIP, on whatever port."""

    def is_served(self, address: bytes) -> bool:
        """Whether a Service has it as any address of its own, on whatever port."""

    def near(self, address: bytes, protocol: int, port: int) -> Sequence[Near]:
        """Services that the client may have meant; at most MOST_NEAR."""


class Listed:
    """A directory of the Services and slices that are given, by claims that are kept anyway (`frontends`)."""

    def __init__(
        self,
        claims: Frontends,
        services: Mapping[ServiceName, Service],
        slices: Mapping[ServiceName, Sequence[EndpointSlice]],
        view: NodeView,
    ) -> None:
        self._claims, self._services, self._slices, self._view = claims, services, slices, view

    def holder(self, family: int, address: bytes, protocol: int, port: int) -> ObjectKey | None:
        return self._claims.holder(slot(family, protocol, port, address))

    def service(self, key: ObjectKey) -> Service | None:
        return self._services.get((key.namespace, key.name))

    def slices(self, key: ObjectKey) -> Sequence[EndpointSlice]:
        return self._slices.get((key.namespace, key.name), ())

    def forwarding(self, key: ObjectKey) -> ServiceForwarding:
        return self._claims.without_lost(resolve(key, self.service(key), self.slices(key), self._view))

    def is_cluster_ip(self, address: bytes) -> bool:
        return self._claims.is_cluster_ip(address)

    def is_served(self, address: bytes) -> bool:
        frontends = (each for key in self._at(address) for each in self.forwarding(key).entries)
        return any(entry.frontend.address == address for entry in frontends)

    def _at(self, address: bytes) -> Iterable[ObjectKey]:
        """The Services that ask for it."""
        return self._claims.at(address)

    def near(self, address: bytes, protocol: int, port: int) -> Sequence[Near]:
        found = [*self._same_address(address), *self._same_port(address, protocol, port)]
        return found[:MOST_NEAR]

    def _same_address(self, address: bytes) -> Iterator[Near]:
        for key in self._at(address):
            for frontend in _frontends(self.service(key)):
                if frontend.address == address:
                    yield Near(key, frontend_text(frontend), "the same address, another port or protocol")

    def _same_port(self, address: bytes, protocol: int, port: int) -> Iterator[Near]:
        """Node ports near by, and ClusterIPs that differ in the last byte: both are slips of a finger."""
        for other in range(max(1, port - NEAR_PORTS), port + NEAR_PORTS + 1):
            key = self.holder(family_of(address), b"", protocol, other)
            if key is not None:
                yield Near(key, f"*:{other}/{protocol_name(protocol)}", "a node port that differs by little")
        family = family_of(address)
        for last in range(256):
            key = self.holder(family, address[:-1] + bytes((last,)), protocol, port)
            if key is not None and last != address[-1]:
                frontend = Frontend(FrontendKind.CLUSTER_IP, family, address[:-1] + bytes((last,)), protocol, port)
                yield Near(key, frontend_text(frontend), "the same port, an address that differs in its last part")


def _frontends(service: Service | None) -> Iterator[Frontend]:
    return iter(()) if service is None else frontends(service)


def slices_by_service(slices: Iterable[EndpointSlice]) -> dict[ServiceName, list[EndpointSlice]]:
    """All slices, by the Service they belong to."""
    found: dict[ServiceName, list[EndpointSlice]] = defaultdict(list)
    for piece in slices:
        found[piece.namespace, piece.service].append(piece)
    return found
