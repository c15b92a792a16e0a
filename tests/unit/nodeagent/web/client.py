"""A plain HTTP client on loopback, and addresses nobody listens on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from nodeagent.web.connections import Connections
from nodeagent.web.server import EVERYBODY, Handler, Server, listen


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def exchange(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    """Sends these bytes and gives everything that comes back."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    data = await reader.read()
    writer.close()
    return data


async def get(
    port: int, path: str = "/", host: str = "127.0.0.1", method: str = "GET", *, accept: str = "*/*"
) -> Answer:
    data = await exchange(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode(), host)
    head, _, body = data.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split(" ")[1]), headers, body)


class Served:
    """`async with Served(handler) as port`. `make`: of the open socket, where it is not a plain `Server`."""

    def __init__(
        self,
        handler: Handler,
        everybody: Connections[asyncio.StreamWriter] = EVERYBODY,
        make: Callable[[socket.socket], Server] | None = None,
    ) -> None:
        self._socket = listen("127.0.0.1", 0)
        self._server = make(self._socket) if make else Server(self._socket, handler, everybody)

    async def __aenter__(self) -> int:
        port: int = self._socket.getsockname()[1]
        await self._server.start()
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
