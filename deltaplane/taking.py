"""Whether any node sends new connections of a Service to an address, told without looking at each node. Pure.

An endpoint that terminates stays in its slice, and is used while no ready one is left (E14); so the slices alone do not
say it. What each kind of node makes of the Service is resolved. Used by the control plane, which answers for all nodes,
and by the agent, which asks only once its own state says so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter

from deltaplane.forwarding import Entry
from deltaplane.model import Conditions, Endpoint, EndpointSlice, ObjectKey, Service, family_of
from deltaplane.resolve import NodeView, resolve

_address = attrgetter("address")
_PUBLISHED = Conditions.READY | Conditions.TERMINATING


def endpoint_of(piece: EndpointSlice, address: bytes) -> Endpoint | None:
    """The endpoint with this packed address, if the slice has it."""
    place = bisect_left(piece.endpoints, address, key=_address)
    found = piece.endpoints[place] if place < len(piece.endpoints) else None
    return found if found is not None and found.address == address else None


def takes(address: bytes, key: ObjectKey, service: Service | None, slices: Sequence[EndpointSlice]) -> bool:
    """Whether some node sends connections of the Service to the packed address. `slices`: all of the Service."""
    endpoints = list(_endpoints(slices, address))
    if not endpoints:
        return False
    forwardings = (resolve(key, service, slices, view) for view in _views(endpoints))
    return any(_is_in(entry, address) for forwarding in forwardings for entry in forwarding.entries)


def why_it_takes(address: bytes, slices: Sequence[EndpointSlice]) -> str:
    """Why an address that takes connections does, in words. `slices`: of the Services that send to it."""
    having = [each.conditions for each in _endpoints(slices, address)]
    if any(each & _PUBLISHED == _PUBLISHED for each in having):
        return "it terminates, and the Service publishes addresses that are not ready, to the end of their Pod"
    if any(each & Conditions.TERMINATING for each in having):
        return "it terminates, and is used because no ready endpoint is left"
    return "it is ready"


def _endpoints(slices: Sequence[EndpointSlice], address: bytes) -> Iterator[Endpoint]:
    found = (endpoint_of(piece, address) for piece in slices)
    return (each for each in found if each is not None)


def _is_in(entry: Entry, address: bytes) -> bool:
    if entry.frontend.family != family_of(address):
        return False
    return any(target.address == address for target in (*entry.targets, *(entry.local_targets or ())))


def _views(endpoints: Sequence[Endpoint]) -> list[NodeView]:
    """The nodes to which an endpoint can mean something of its own: its own node, those it is hinted for, any other."""
    homes = {(each.node, each.zone) for each in endpoints}
    zones = {("", zone) for each in endpoints for zone in each.zone_hints}
    nodes = {(node, "") for each in endpoints for node in each.node_hints}
    return [NodeView(node, zone) for node, zone in homes | zones | nodes | {("", "")}]
