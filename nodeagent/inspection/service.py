"""The agent's inspection service (proto/deltaplane/v1/agent.proto) on a unix socket of its own, for its user alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

import deltaplane
from deltaplane.explain import Site
from deltaplane.model import Kind
from deltaplane.sockets import private, taken
from deltaplane.v1 import agent_pb2, agent_pb2_grpc
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.errors import AgentError
from nodeagent.inspection.facts import Facts, Take
from nodeagent.inspection.foreign import Way, note_foreign
from nodeagent.inspection.reading import Unknown, explain_here, forwarding
from nodeagent.stream.link import Link

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]
Turn = Callable[[Callable[[], Any]], Awaitable[Any]]
SERVICE = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
OPTIONS = (("grpc.max_receive_message_length", 64 * 1024), ("grpc.max_concurrent_streams", 16))


class Inspection(agent_pb2_grpc.AgentServiceServicer):
    """`turn` runs a call between two calls of the agent. `site`: this node, from what is known now.

    `link`: the agent's way to the replicas.
    """

    def __init__(self, turn: Turn, take: Take, site: Callable[[Facts], Site], link: Link | None = None) -> None:
        self._turn, self._take, self._site, self._link = turn, take, site, link or Link()
        self._reading = asyncio.Lock()  # other programs' tables: once at a time, however many ask

    async def GetAgent(  # noqa: N802 - the name is gRPC's
        self, request: agent_pb2.GetAgentRequest, context: Context
    ) -> agent_pb2.GetAgentResponse:
        found = await self._answered(context, lambda: agent_of(self._take(), self._link))
        if not request.without_foreign:
            async with self._reading:
                await asyncio.to_thread(note_foreign, found)
        return found

    async def GetForwarding(  # noqa: N802
        self, request: agent_pb2.GetForwardingRequest, context: Context
    ) -> agent_pb2.GetForwardingResponse:
        return await self._answered(context, lambda: forwarding(self._take(), request))

    async def ExplainHere(  # noqa: N802
        self, request: agent_pb2.ExplainHereRequest, context: Context
    ) -> agent_pb2.ExplainHereResponse:
        def answer() -> tuple[agent_pb2.ExplainHereResponse, Way]:
            facts = self._take()
            site = self._site(facts)
            found = explain_here(facts, site, request)
            return found, Way.of(found.explanation, site.own)

        found, way = await self._answered(context, answer)
        async with self._reading:
            await asyncio.to_thread(note_foreign, found, way.may_meet)
        return found

    async def _answered(self, context: Context, call: Callable[[], T]) -> T:
        try:
            found: T = await self._turn(call)
        except Unknown as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return found


def agent_of(facts: Facts, link: Link) -> agent_pb2.GetAgentResponse:
    """The agent itself."""
    mirror = facts.mirror
    slices = sum(1 for thing in mirror.objects() if thing.key.kind is Kind.ENDPOINT_SLICE)
    return agent_pb2.GetAgentResponse(
        node_name=facts.view.name,
        agent_version=deltaplane.__version__,
        proxy_mode=facts.dataplane.mode,
        epoch=facts.epoch.hex(),
        rev=facts.rev,
        digest=f"{mirror.digest.value:016x}",
        counts=pb.Counts(services=len(mirror.services), endpoint_slices=slices, nodes=len(mirror.nodes)),
        connected=facts.welcomed,
        complete=facts.complete,
        pending=facts.dataplane.pending(),
        drifted=facts.drifted,
        failed=facts.failed,
        brake=facts.brake,
        server=link.server,
        servers=link.servers,
        since_unix_nano=link.since,
        last_error=link.error,
        last_error_server=link.error_server,
        last_error_unix_nano=link.error_at,
    )


async def serve(path: str, inspection: Inspection) -> None:
    """Answers on the unix socket unix:///PATH until cancelled. Raises `AgentError` when it cannot be bound."""
    server = grpc.aio.server(options=OPTIONS)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(inspection, server)
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    if taken(path):
        raise AgentError(f"--inspect-socket={path}: another program listens there; give each agent one of its own")
    try:
        with private():
            bound = server.add_insecure_port(path)
    except RuntimeError:
        bound = 0
    if not bound:
        raise AgentError(
            f"--inspect-socket={path}: cannot bind; is there such a folder, and may this user write in it?"
        )
    await server.start()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop(grace=None)
