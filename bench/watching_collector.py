"""A trace collector that counts what it gets, for `watching`.

python -m bench.watching_collector LISTEN
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from bench import fanout_commands


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts spans."""

    spans = 0

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.spans += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
        return pb.ExportTraceServiceResponse()

    async def count(self) -> dict[str, Any]:
        """Spans so far."""
        return {"spans": self.spans}


async def main(listen: str) -> None:
    collector, server = Collector(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(listen)
    await server.start()
    await fanout_commands.obey({"count": collector.count})
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
