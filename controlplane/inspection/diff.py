"""In what two nodes differ: their agents, and what the Services that each has acknowledged mean on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from controlplane.inspection.basis import acknowledged, basis
from controlplane.inspection.here import Here
from controlplane.inspection.objects import service_named
from controlplane.inspection.past import Past
from controlplane.inspection.resolving import node_named, view_of
from deltaplane.explain import slices_by_service
from deltaplane.forwarding import Entry, ServiceForwarding
from deltaplane.model import EndpointSlice, Kind, ObjectKey
from deltaplane.resolve import NodeView, resolve
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2
from deltaplane.views import entry_view, frontend_text, key_message

PORTION = 50  # Services between two looks at what else there is to do
MOST = 100  # differences that are shown
UNKNOWN = "an earlier form, which is no longer kept"
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
    """What each has acknowledged. Raises `Unknown`. `one`, `other`: their agents."""
    nodes = [node_named(here, name) for name in (request.node_name, request.other_node_name)]
    answer = pb.DiffResponse(fields=fields(one, other))
    sides = [_Side(here, status, view_of(node)) for status, (node, _) in zip((one, other), nodes, strict=True)]
    async for difference in _services(here, request, *sides):
        if len(answer.services) < MOST:
            answer.services.append(difference)
        else:
            answer.more_services += 1
    only = ObjectKey(Kind.SERVICE, request.namespace, request.name) if request.name else None
    answer.node.CopyFrom(sides[0].basis(only))
    answer.other.CopyFrom(sides[1].basis(only))
    return answer


class _Side:
    """One of the nodes, with the Services as it has acknowledged them."""

    def __init__(self, here: Here, status: pb.NodeStatus, view: NodeView) -> None:
        self._here, self._status, self._view = here, status, view
        self._elsewhere = status.server_id not in {"", here.server_id}
        self._session = None if self._elsewhere else here.session(status.node_name)
        self.past = Past(here, acknowledged(here, self._session) or here.head)
        self.changed = self.past.services()
        self._unknown: dict[ObjectKey, None] = {}

    def entries(self, key: ObjectKey, slices: Sequence[EndpointSlice]) -> dict[str, Entry] | None:
        """By frontend, as text; None: the form of then is not kept. `slices`: as they are now."""
        service = self._here.service(key.namespace, key.name)
        if key in self.changed:
            found = self.past.held(key)
            if found.unknown:
                self._unknown.update(dict.fromkeys(found.unknown))
                return None
            service, slices = found.service, found.slices
        return _by_frontend(resolve(key, service, slices, self._view))

    def basis(self, only: ObjectKey | None) -> pb.Basis:
        """What its side of the answer is of. Another replica's revisions are not this one's."""
        past, status = self.past, self._status
        changed = filter(past.differs, past.changed) if only is None else past.held(only).changed
        found = basis(self._here, self._session, changed, self._unknown)
        if self._elsewhere:
            found.acknowledged = 0 < status.head_rev <= status.applied_rev
            behind = f"its agent follows the replica {status.server_id}, and has not its newest revision"
            found.text = "" if found.acknowledged else behind
        found.silent_replicas.extend(status.silent_replicas)
        return found


async def _services(
    here: Here, request: pb.DiffRequest, one: _Side, other: _Side
) -> AsyncIterator[pb.ServiceDifference]:
    slices = slices_by_service(here.slices())
    keys: Iterable[ObjectKey] = {**dict.fromkeys(here.cluster.store.keys(Kind.SERVICE)), **one.changed, **other.changed}
    if request.name:
        keys = [ObjectKey(Kind.SERVICE, request.namespace, request.name)]
        if keys[0] not in {**one.changed, **other.changed}:
            service_named(here, request.namespace, request.name)  # raises where there is none
    for number, key in enumerate(list(keys)):
        if number % PORTION == PORTION - 1:
            await asyncio.sleep(0)
        mine = slices.get((key.namespace, key.name), [])
        for difference in _differences(key, one.entries(key, mine), other.entries(key, mine)):
            yield difference


def _differences(
    key: ObjectKey, one: dict[str, Entry] | None, other: dict[str, Entry] | None
) -> Iterator[pb.ServiceDifference]:
    for name in sorted((one or {}).keys() | (other or {}).keys()) or ([""] if one is None or other is None else []):
        left, right = _side(one, name), _side(other, name)
        if left != right:
            yield pb.ServiceDifference(service=key_message(key), frontend=name, node=left, other=right)


def _side(entries: dict[str, Entry] | None, name: str) -> str:
    return UNKNOWN if entries is None else _said(entries.get(name))


def _by_frontend(forwarding: ServiceForwarding) -> dict[str, Entry]:
    return {f"{frontend_text(entry.frontend)} (IPv{entry.frontend.family})": entry for entry in forwarding.entries}


def _said(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    view = entry_view(entry)
    here = f"; here: {', '.join(view.local_endpoints) or view.external_verdict}" if view.external_policy_local else ""
    ranges = f"; only from {', '.join(view.source_ranges)}" if view.source_ranges else ""
    return f"{', '.join(view.endpoints) or view.verdict}{here}{ranges}"
