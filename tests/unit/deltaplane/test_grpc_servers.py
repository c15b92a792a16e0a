"""No handler of a gRPC server is left when a program's event loop ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from deltaplane import grpc_servers
from deltaplane.grpc_servers import handlers_ended


async def stopped(folder: Path, *, ends_after: float) -> list[str]:
    """A server that is stopped while a handler needs this many seconds to end; gives what has ended."""
    ended: list[str] = []
    began = asyncio.Event()

    async def handler(requests: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            began.set()
            await asyncio.Event().wait()
            yield b""
        finally:
            await asyncio.sleep(ends_after)
            ended.append("handler")

    server = aio.server()
    method: Any = grpc.stream_stream_rpc_method_handler(handler)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Call": method}),))
    server.add_insecure_port(f"unix:{folder}/socket")
    await server.start()
    async with aio.insecure_channel(f"unix:{folder}/socket") as channel:
        channel.stream_stream("/test/Call")()
        await began.wait()
        await server.stop(grace=0)
    await handlers_ended()
    return ended


async def test_a_handler_that_needs_a_while_to_end_has_ended(tmp_path: Path) -> None:
    assert await stopped(tmp_path, ends_after=0.3) == ["handler"]


async def test_a_handler_that_does_not_end_holds_the_end_for_a_bounded_time(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(grpc_servers, "SECONDS", 0.1)

    assert await asyncio.wait_for(stopped(tmp_path, ends_after=30), 20) == []


async def test_without_a_server_nothing_is_waited_for() -> None:
    async with asyncio.timeout(1):
        await handlers_ended()
