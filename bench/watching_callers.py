"""People and programs that wait, for `watching`: calls of WaitApplied, so many at a time.

    python -m bench.watching_callers SERVER SERVICES

Commands are lines of JSON on standard input, answers lines on standard output (`fanout_commands`).
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc.aio

from bench import fanout_commands
from bench.cluster import endpoint
from deltaplane.names import shown_address
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import inspection_pb2_grpc, objects_pb2

PATIENCE = 10.0  # seconds of a call


class Callers:
    """`begin` and `end` bound a time in which so many wait."""

    def __init__(self, server: str, services: int) -> None:
        self._channel = grpc.aio.insecure_channel(server)
        self._stub = inspection_pb2_grpc.InspectionServiceStub(self._channel)
        self._services, self._random = services, random.Random(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._took: list[float] = []
        self._failed = self._made = 0

    def _service(self) -> pb.WaitAppliedRequest:
        """`deltaplane wait svc/NAME`: a Service and its endpoints as they are now."""
        request = pb.WaitAppliedRequest(timeout_seconds=PATIENCE)
        key = request.object.key
        key.kind, key.namespace = objects_pb2.KIND_SERVICE, "default"
        key.name = f"service-{self._random.randrange(self._services)}"
        return request

    def _standing(self) -> pb.WaitAppliedRequest:
        """`deltaplane wait --for=removed=POD` of a Pod that stays, and for a change that does not come, by turns."""
        self._made += 1
        if self._made % 2:
            return pb.WaitAppliedRequest(timeout_seconds=PATIENCE, revision=pb.RevisionOf(rev=1 << 40))
        address = shown_address(endpoint(self._random.randrange(self._services)).address)
        return pb.WaitAppliedRequest(timeout_seconds=PATIENCE, removed_address=address)

    async def begin(self, number: int, what: str) -> dict[str, Any]:
        """So many wait from now on, each again once it has its answer. `what`: "service" or "standing"."""
        self._took, self._failed = [], 0
        made = {"service": self._service, "standing": self._standing}[what]
        self._tasks = [asyncio.create_task(self._again(made)) for _ in range(number)]
        return {}

    async def end(self) -> dict[str, Any]:
        """Nobody waits any more. How long each call took that has ended, seconds."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        return {"took": self._took, "failed": self._failed}

    async def _again(self, made: Callable[[], pb.WaitAppliedRequest]) -> None:
        while True:
            began = time.monotonic()
            try:
                async for _ in self._stub.WaitApplied(made(), timeout=PATIENCE + 5):
                    pass
                self._took.append(time.monotonic() - began)
            except grpc.aio.AioRpcError:
                self._failed += 1
                await asyncio.sleep(1.0)


async def main(server: str, services: str) -> None:
    callers = Callers(server, int(services))
    await fanout_commands.obey({"begin": callers.begin, "end": callers.end})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
