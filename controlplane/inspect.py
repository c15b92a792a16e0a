"""What an operator asks of this replica (proto/deltaplane/v1/inspection.proto). Reads; changes nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from controlplane.cluster import Cluster
from controlplane.facts import Following
from controlplane.nodes import Nodes
from controlplane.progress import Progress, to_message
from controlplane.session import Session
from deltaplane.model import Kind
from deltaplane.v1 import delta_pb2, inspection_pb2, inspection_pb2_grpc

MAX_ERROR = 1000  # characters
SHOWN_FAILURES = 3  # of a node in ListNodes, whose answer has all nodes and must stay below 4 MiB
Context = grpc.aio.ServicerContext[Any, Any]


class Inspection(inspection_pb2_grpc.InspectionServiceServicer):
    """The servicer; its answers are true at the moment of the call."""

    def __init__(
        self,
        server_id: str,
        cluster: Cluster,
        nodes: Nodes,
        progress: Progress,
        sources: Callable[[], Iterable[Following]] = tuple,
    ) -> None:
        self._sources = sources
        self._server_id = server_id
        self._cluster = cluster
        self._nodes = nodes
        self._progress = progress

    async def GetStatus(  # noqa: N802 - the name is gRPC's
        self, request: inspection_pb2.GetStatusRequest, context: Context
    ) -> inspection_pb2.GetStatusResponse:
        store, log = self._cluster.store, self._cluster.log
        counts = delta_pb2.Counts(
            services=store.count(Kind.SERVICE),
            endpoint_slices=store.count(Kind.ENDPOINT_SLICE),
            nodes=store.count(Kind.NODE),
            service_cidrs=store.count(Kind.SERVICE_CIDR),
        )
        return inspection_pb2.GetStatusResponse(
            server_id=self._server_id,
            epoch=log.epoch.hex(),
            head_rev=log.head,
            counts=counts,
            digest=store.digest.value,
            connected_nodes=sum(session.closed is None for session in self._nodes),
            sources=[
                inspection_pb2.SourceStatus(
                    resource=each.resource,
                    following=not each.error,
                    since_unix_nano=each.since_unix_nano,
                    error=each.error[:MAX_ERROR],
                    resource_version=each.version,
                )
                for each in self._sources()
            ],
        )

    async def ListNodes(  # noqa: N802
        self, request: inspection_pb2.ListNodesRequest, context: Context
    ) -> inspection_pb2.ListNodesResponse:
        now = time.monotonic()
        nodes = sorted((_status(session, now) for session in self._nodes), key=lambda node: node.node_name)
        return inspection_pb2.ListNodesResponse(head_rev=self._cluster.log.head, nodes=nodes)

    async def TailCommits(  # noqa: N802
        self, request: inspection_pb2.TailCommitsRequest, context: Context
    ) -> AsyncIterator[inspection_pb2.TailCommitsResponse]:
        await context.send_initial_metadata(())  # the caller knows that nothing after this is missed
        with self._cluster.awaited():
            async for commit in self._progress.tail():
                if request.node_name in {"", commit.node}:
                    yield to_message(commit)

    async def ReleaseBrake(  # noqa: N802
        self, request: inspection_pb2.ReleaseBrakeRequest, context: Context
    ) -> inspection_pb2.ReleaseBrakeResponse:
        chosen = [session for session in self._nodes if request.node_name in {"", session.node_name}]
        if request.node_name and not chosen:
            text = f"node {request.node_name} has no agent at this replica: see ListNodes, or ask another replica"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        return inspection_pb2.ReleaseBrakeResponse(
            nodes=sorted(session.node_name for session in chosen if session.release_brake())
        )


def _status(session: Session, now: float) -> inspection_pb2.NodeStatus:
    return inspection_pb2.NodeStatus(
        node_name=session.node_name,
        state=session.state(now),
        proxy_mode=session.hello.proxy_mode,
        proxy_mode_asked=session.hello.proxy_mode_asked,
        proxy_mode_reason=session.hello.proxy_mode_reason,
        agent_version=session.hello.agent_version,
        sent_rev=session.sent_rev,
        received_rev=session.received_rev,
        applied_rev=session.applied_rev,
        behind_seconds=session.behind_seconds(now),
        failed=session.failed[:SHOWN_FAILURES],
        more_failed=session.more_failed + max(0, len(session.failed) - SHOWN_FAILURES),
        brake=session.brake,
        peer=session.peer,
        brought_up=session.catch_up.why,
    )
