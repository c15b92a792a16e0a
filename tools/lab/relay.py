"""A door from this process into a namespace: a loopback port whose connections come out inside, at one address.

So that gRPC channels, HTTP clients and operators' tools of the machine itself reach servers in the laboratory, without
any route or address on the machine. One thread drives all doors.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import cache

from tools.lab.echo import family_of
from tools.lab.netns import Namespace


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="relay", daemon=True).start()
    return loop


class Relay:
    """Open from its making to `close`. `port` is on 127.0.0.1 of the caller's namespace."""

    def __init__(self, space: Namespace, address: str, port: int) -> None:
        self._space, self._target = space, (address, port)
        self._pumps: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = asyncio.run_coroutine_threadsafe(self._accept(), _loop())

    @property
    def target(self) -> str:
        """HOST:PORT for a client of this process."""
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Closes the door and whatever passes through it."""
        asyncio.run_coroutine_threadsafe(self._end(), _loop()).result(5)

    async def _end(self) -> None:
        self._accepting.cancel()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        while True:
            near, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            task = asyncio.ensure_future(self._carry(near))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _carry(self, near: socket.socket) -> None:
        far = self._space.socket(family_of(self._target[0]), socket.SOCK_STREAM)
        with near, far:
            for sock in (near, far):
                sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(far, self._target)
                # Where one pump fails the other ends too, before both close: the loop would take the next connection of
                # the same descriptor for one that it knows, and fail it.
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(_pump(near, far))
                    pumps.create_task(_pump(far, near))
            except* OSError:
                pass


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, 1 << 18):
        await loop.sock_sendall(sink, data)
    sink.shutdown(socket.SHUT_WR)
