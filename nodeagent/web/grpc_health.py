"""The agent's gRPC health service, for probes. Serving once the first complete state is in the kernel."""

from __future__ import annotations

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deltaplane.flags import listening
from nodeagent.errors import AgentError

SERVICES = ("", "deltaplane.agent")


class Health:
    """`start` binds it; `set` says whether the node is served."""

    def __init__(self, listen: str) -> None:
        self._listen = listen
        self._server = grpc.aio.server()
        self._servicer = health.aio.HealthServicer()
        self._serving: bool | None = None
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)

    async def start(self) -> None:
        """Raises `AgentError` when the address cannot be bound."""
        try:
            bound = self._server.add_insecure_port(listening(self._listen))
        except RuntimeError as error:
            raise AgentError(f"--health-listen={self._listen}: cannot bind; is another agent running?") from error
        if not bound:
            raise AgentError(f"--health-listen={self._listen}: cannot bind; is another agent running?")
        await self.set(serving=False)
        await self._server.start()

    async def set(self, *, serving: bool) -> None:
        if serving == self._serving:
            return
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in SERVICES:
            await self._servicer.set(service, status)

    async def stop(self) -> None:
        await self._server.stop(grace=None)
