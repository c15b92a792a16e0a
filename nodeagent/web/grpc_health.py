"""The agent's gRPC health service, for probes. Serving once the first complete state is in the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deltaplane.probes import bind, options
from nodeagent.errors import AgentError

SERVICES = ("", "deltaplane.agent")
LOOK_SECONDS = 0.2  # between two looks whether the state is complete


async def serve(listen: str, complete: Callable[[], bool]) -> None:
    """Answers on HOST:PORT until cancelled: serving from the moment that `complete` is true, and from then on.

    Raises `AgentError` when the address cannot be bound.
    """
    servicer, server = health.aio.HealthServicer(), _bound(listen)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await _set(servicer, serving=False)
    await server.start()
    try:
        while not complete():  # noqa: ASYNC110 - the agent is synchronous and has no event to wait for
            await asyncio.sleep(LOOK_SECONDS)
        await _set(servicer, serving=True)
        await asyncio.Event().wait()
    finally:
        await server.stop(grace=None)


def _bound(listen: str) -> grpc.aio.Server:
    server = grpc.aio.server(options=options())
    if not bind(server, listen):
        raise AgentError(f"--health-listen={listen}: cannot bind; is another agent running?")
    return server


async def _set(servicer: health.aio.HealthServicer, *, serving: bool) -> None:
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in SERVICES:
        await servicer.set(service, status)
