"""A way from an agent to a replica that the test can hold or shut: a unix socket, whose bytes are carried on.

Held, a direction carries nothing, as where packets are lost: what was sent arrives when it is open again. Shut, nobody
answers. Half open, the replica does not learn that the agent has gone. One thread drives all doors.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
BOTH = frozenset({"to the agent", "from the agent"})


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="doors", daemon=True).start()
    return loop


def _do(what: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(what, _loop()).result(10)


class Door:
    """One agent's way to one replica. `address`: what the agent dials."""

    def __init__(self, path: Path, port: int) -> None:
        self.address = f"unix://{path}"
        self._path, self._port = path, port
        self._held: frozenset[str] = frozenset()
        self._shut = self._half_open = False
        self._moved = asyncio.Event()
        self._carrying: set[asyncio.Task[None]] = set()
        _do(self._begin())

    async def _begin(self) -> None:
        self._server = await asyncio.start_unix_server(self._carry, str(self._path))

    def hold(self, directions: frozenset[str]) -> None:
        """Nothing passes in these directions; none: everything passes."""
        _do(self._set(held=directions))

    def shut(self, *, half_open: bool = False) -> None:
        """Ends what is open, for both ends or for the agent's alone, and lets nobody in."""
        _do(self._set(shut=True, half_open=half_open))

    def open(self) -> None:
        _do(self._set())

    async def _set(self, *, held: frozenset[str] = frozenset(), shut: bool = False, half_open: bool = False) -> None:
        self._held, self._shut, self._half_open = held, shut, half_open
        if shut or not held:
            before, self._moved = self._moved, asyncio.Event()
            before.set()
        if shut and not half_open:
            await self._end()

    async def _end(self) -> None:
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        try:
            if self._shut:
                return
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await self._pumps(reader, writer, far_reader, far_writer)
                finally:
                    far_writer.transport.abort()
        except asyncio.CancelledError:
            pass
        finally:
            self._carrying.discard(task)
            writer.transport.abort()

    async def _pumps(self, *ends: Any) -> None:
        near_reader, near_writer, far_reader, far_writer = ends
        pumps = [
            asyncio.create_task(self._pump(near_reader, far_writer, "from the agent")),
            asyncio.create_task(self._pump(far_reader, near_writer, "to the agent")),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            while self._half_open and not pumps[1].done():  # the replica's end stays as it is
                near_writer.transport.abort()
                await self._moved.wait()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                while direction in self._held or (self._half_open and direction == "to the agent"):
                    await self._moved.wait()
                writer.write(data)
                await writer.drain()

    def close(self) -> None:
        self.shut()
        _do(self._close())

    async def _close(self) -> None:
        self._server.close()
