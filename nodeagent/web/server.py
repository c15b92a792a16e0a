"""An HTTP/1.1 responder on asyncio streams: GET and HEAD, one request per connection.

Probes and scrapes need no more, and a web framework does: aiohttp costs an agent 10 MiB of memory on every node, while
the library's own `http.server` wants a thread per listener. Anybody may connect to a health check node port, so a
connection has a deadline, a request a size, and each client a share of the connections (`connections`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

from msgspec import Struct

from deltaplane import http1
from deltaplane.http1 import TEXT
from deltaplane.logs import event
from deltaplane.once import Once
from nodeagent.web.connections import Connections, most

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
REQUEST_BYTES = 16 * 1024
BACKLOG = 128


class Response(Struct, frozen=True):
    """What a handler answers."""

    body: str | bytes
    status: int = 200
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = (("X-Content-Type-Options", "nosniff"),)


class Request(Struct, frozen=True):
    """`path`: without its query. `accept`: which kinds of answer the client takes, as its header says."""

    path: str
    accept: str = ""


Handler = Callable[[str], Awaitable[Response]]
"""Path without its query -> answer."""

NOT_FOUND = Response("404 page not found\n", 404)
NOT_ALLOWED = Response("only GET and HEAD are answered here\n", 405)
BAD_REQUEST = Response("this is no HTTP/1 request\n", 400)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket on one address; "0.0.0.0" and "::" are those of their family alone. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return _bound(family, host, port, both=False)


def listen_everywhere(host: str, port: int) -> socket.socket:
    """The same, but a wildcard means both families where the machine has both, as in kube-proxy. Raises OSError."""
    if host not in ("", "0.0.0.0", "::"):  # noqa: S104 - compared with
        return listen(host, port)
    try:
        return _bound(socket.AF_INET6, "::", port, both=True)
    except OSError:
        if host == "::":
            raise
        return listen("0.0.0.0", port)  # noqa: S104 - what was asked for


def _bound(family: socket.AddressFamily, host: str, port: int, *, both: bool) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        opened.bind((host, port))
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    opened.setblocking(False)
    return opened


EVERYBODY = Connections[asyncio.StreamWriter](most())
"""Those of all servers of this process."""


class Server:
    """Answers on one listening socket with `handler`. `seconds`: from connecting to the last byte of the answer,
    where not `REQUEST_SECONDS`."""

    def __init__(
        self,
        opened: socket.socket,
        handler: Handler,
        everybody: Connections[asyncio.StreamWriter] = EVERYBODY,
        *,
        seconds: float | None = None,
    ) -> None:
        self._everybody, self._seconds = everybody, seconds
        self._crowding = Once[str](256)  # addresses that had too many connections
        self._socket = opened
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Answers from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket, limit=REQUEST_BYTES)

    def close(self) -> None:
        """Stops listening at once and closes all connections."""
        if self._server is None:
            self._socket.close()
        else:
            self._server.close()
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = host_of(writer)
        self._connections.add(writer)
        self._enter(host, writer)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(self._seconds or REQUEST_SECONDS):
                    await self._answer(reader, writer)
        finally:
            self._connections.discard(writer)
            self._everybody.leave((self, host), writer)
            writer.transport.abort()

    def _enter(self, host: str, writer: asyncio.StreamWriter) -> None:
        """Who has most connections open loses the oldest of them to the newest of all."""
        gone = self._everybody.enter((self, host), writer)
        if gone is None:
            return
        (_, crowding), oldest = gone
        oldest.transport.abort()
        if self._crowding.note(crowding):
            event(log, logging.WARNING, "too many connections: the oldest end", client=crowding)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await http1.read_head(reader)
        method, target = http1.request_line(head)
        if method == "":
            response = BAD_REQUEST
        elif method not in ("GET", "HEAD"):
            response = NOT_ALLOWED
        else:
            request = Request(target.partition("?")[0], http1.header(head, "accept"))
            response = await self._respond(request, reader, writer)
        writer.write(_rendered(response, body=method != "HEAD"))
        writer.write_eof()
        await writer.drain()
        await reader.read(1)  # the client closes first, so that its last bytes do not turn the answer into a reset

    async def _respond(
        self, request: Request, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
    ) -> Response:
        return await self._handler(request.path)


def host_of(writer: asyncio.StreamWriter) -> str:
    """The client's address; empty where it is gone already."""
    return str((writer.get_extra_info("peername") or ("",))[0])


def _rendered(response: Response, *, body: bool) -> bytes:
    payload = response.body.encode() if isinstance(response.body, str) else response.body
    lines = (("Content-Type", response.content_type), *response.headers, ("Content-Length", str(len(payload))))
    return http1.answer_head(response.status, lines) + (payload if body else b"")
