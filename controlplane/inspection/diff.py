"""In what two nodes differ: their agents, and what Services mean on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

from controlplane.inspection.basis import basis
from controlplane.inspection.here import Here
from controlplane.inspection.objects import service_named
from controlplane.inspection.resolving import node_named, view_of
from deltaplane.explain import slices_by_service
from deltaplane.forwarding import Entry, ServiceForwarding
from deltaplane.model import EndpointSlice, Kind, ObjectKey, ServiceName
from deltaplane.resolve import NodeView, resolve
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2
from deltaplane.views import entry_view, frontend_text, key_message

PORTION = 50  # Services between two looks at what else there is to do
MOST = 100  # differences that are shown
COMPARED = (
    "state", "proxy_mode", "proxy_mode_asked", "proxy_mode_reason", "agent_version", "server_id", "epoch", "applied_rev"
)  # fmt: skip


def fields(one: pb.NodeStatus, other: pb.NodeStatus) -> Iterator[pb.FieldDifference]:
    """What differs between two agents."""
    for name in COMPARED:
        values = [_text(status, name) for status in (one, other)]
        if values[0] != values[1]:
            yield pb.FieldDifference(field=name, node=values[0], other=values[1])
    failing = [{_named(each.key): each.text for each in status.failed} for status in (one, other)]
    for key in sorted(failing[0].keys() | failing[1].keys()):
        if failing[0].get(key) != failing[1].get(key):
            left, right = (found.get(key, "does not fail") for found in failing)
            yield pb.FieldDifference(field=f"failed {key}", node=left, other=right)
    held = [status.HasField("brake") for status in (one, other)]
    if held[0] != held[1]:
        left, right = ("holds" if each else "holds nothing" for each in held)
        yield pb.FieldDifference(field="brake", node=left, other=right)


def _text(status: pb.NodeStatus, name: str) -> str:
    return pb.NodeState.Name(status.state) if name == "state" else str(getattr(status, name))


def _named(key: objects_pb2.ObjectKey) -> str:
    return str(ObjectKey(Kind(key.kind), key.namespace, key.name))


async def diff(here: Here, request: pb.DiffRequest, one: pb.NodeStatus, other: pb.NodeStatus) -> pb.DiffResponse:
    """Both nodes with this replica's newest objects. Raises `Unknown`. `one`, `other`: their agents."""
    nodes = [node_named(here, name) for name in (request.node_name, request.other_node_name)]
    answer = pb.DiffResponse(fields=fields(one, other), node=_basis(here, one), other=_basis(here, other))
    views = [view_of(node) for node, _ in nodes]
    async for difference in _services(here, request, views[0], views[1]):
        if len(answer.services) < MOST:
            answer.services.append(difference)
        else:
            answer.more_services += 1
    return answer


def _basis(here: Here, status: pb.NodeStatus) -> pb.Basis:
    """Objects are of this replica's head; the node may have an older state."""
    found = basis(here, here.session(status.node_name))
    found.rev, found.acknowledged = here.head, found.applied_rev == here.head
    if not found.acknowledged and not found.text:
        found.text = f"objects are of revision {here.head}, and the node has acknowledged {found.applied_rev}"
    return found


async def _services(
    here: Here, request: pb.DiffRequest, one: NodeView, other: NodeView
) -> AsyncIterator[pb.ServiceDifference]:
    slices = slices_by_service(here.slices())
    keys: Iterable[ObjectKey] = here.cluster.store.keys(Kind.SERVICE)
    if request.name:
        keys = [service_named(here, request.namespace, request.name).key]
    for number, key in enumerate(list(keys)):
        if number % PORTION == PORTION - 1:
            await asyncio.sleep(0)
        for difference in _differences(here, key, slices, (one, other)):
            yield difference


def _differences(
    here: Here, key: ObjectKey, slices: dict[ServiceName, list[EndpointSlice]], views: tuple[NodeView, NodeView]
) -> Iterator[pb.ServiceDifference]:
    service, mine = here.service(key.namespace, key.name), slices.get((key.namespace, key.name), [])
    one, other = (_by_frontend(resolve(key, service, mine, view)) for view in views)
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            left, right = _said(one.get(name)), _said(other.get(name))
            yield pb.ServiceDifference(service=key_message(key), frontend=name, node=left, other=right)


def _by_frontend(forwarding: ServiceForwarding) -> dict[str, Entry]:
    return {f"{frontend_text(entry.frontend)} (IPv{entry.frontend.family})": entry for entry in forwarding.entries}


def _said(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    view = entry_view(entry)
    here = f"; here: {', '.join(view.local_endpoints) or view.external_verdict}" if view.external_policy_local else ""
    ranges = f"; only from {', '.join(view.source_ranges)}" if view.source_ranges else ""
    return f"{', '.join(view.endpoints) or view.verdict}{here}{ranges}"
