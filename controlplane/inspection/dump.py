"""The whole state as a stream of messages, for a support bundle. Nothing secret ever comes to a replica's state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from controlplane.inspection.changes import readable
from controlplane.inspection.here import Here
from controlplane.inspection.objects import Unknown, shown
from deltaplane.model import Kind
from deltaplane.v1 import inspection_pb2 as pb

PORTION = 100  # objects between two looks at what else there is to do
LAST = 500  # revisions whose changes are told


async def dump(
    here: Here, status: pb.GetStatusResponse, nodes: list[pb.NodeStatus], hello: Callable[[str], pb.GetNodeResponse]
) -> AsyncGenerator[pb.DumpResponse, None]:
    """Status, nodes, objects, the last changes, and the end, which counts the parts. `hello`: a node's agent."""
    number = 0
    async for part in _parts(here, status, nodes, hello):
        number += 1
        yield part
    yield pb.DumpResponse(end=pb.DumpEnd(parts=number, replicas=status.replicas))


async def _parts(
    here: Here, status: pb.GetStatusResponse, nodes: list[pb.NodeStatus], hello: Callable[[str], pb.GetNodeResponse]
) -> AsyncGenerator[pb.DumpResponse, None]:
    yield pb.DumpResponse(status=status)
    for node in nodes:
        known = hello(node.node_name)
        known.status.CopyFrom(node)
        yield pb.DumpResponse(node=known)
    for kind in Kind:
        for place, key in enumerate(sorted(here.cluster.store.keys(kind))):
            if place % PORTION == PORTION - 1:
                await asyncio.sleep(0)
            try:
                yield pb.DumpResponse(object=shown(here, key))
            except Unknown:
                continue  # it has gone meanwhile
    log = here.cluster.log
    for batch in log.between(max(log.tail, log.head - LAST), log.head):
        for change in readable(here, batch, pb.TailChangesRequest()):
            yield pb.DumpResponse(change=change)
