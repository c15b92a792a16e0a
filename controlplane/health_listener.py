"""The gRPC health service on an address of its own, for the kubelet's probes, which speak no TLS and show nothing.

Run by `server`. Nothing else answers there.
"""

from __future__ import annotations

import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from controlplane.errors import ControlPlaneError
from deltaplane.probes import bind, options


class HealthListener:
    """HOST:PORT or unix:///PATH; empty: none."""

    def __init__(self, listen: str, servicer: health_pb2_grpc.HealthServicer) -> None:
        self._listen = listen
        self._server = grpc.aio.server(options=options()) if listen else None
        if self._server is not None:
            health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)

    async def start(self) -> None:
        """Raises `ControlPlaneError` when the address cannot be bound."""
        if self._server is None:
            return
        if not bind(self._server, self._listen):
            raise ControlPlaneError(f"--health-listen={self._listen}: cannot bind; is the port taken?")
        await self._server.start()

    async def stop(self) -> None:
        """Frees the address."""
        if self._server is not None:
            await self._server.stop(grace=None)
