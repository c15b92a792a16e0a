"""What a program does between the end of its gRPC servers and the end of its event loop.

`grpc.aio.Server.stop` returns when gRPC's core has ended the calls, while the tasks of their handlers may still run.
An event loop that ends cancels these tasks, and gRPC then prints a traceback for each of them.
"""

from __future__ import annotations

import asyncio

SECONDS = 2.0  # for handlers to end after their calls
TASKS = frozenset(["_schedule_rpc_coro", "_handle_exceptions"])  # grpc/_cython/_cygrpc/aio/server.pyx.pxi


async def handlers_ended() -> None:
    """Returns when no handler of a gRPC server of this event loop runs any more, or after SECONDS."""
    if running := [task for task in asyncio.all_tasks() if _name(task) in TASKS]:
        await asyncio.wait(running, timeout=SECONDS)


def _name(task: asyncio.Task[object]) -> str:
    return getattr(task.get_coro(), "__name__", "")
