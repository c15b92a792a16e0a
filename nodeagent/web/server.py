"""An HTTP/1.1 responder on asyncio streams: GET and HEAD, one request per connection.

Probes and scrapes need no more, and a web framework does: aiohttp costs an agent 10 MiB of memory on every node, while
the library's own `http.server` wants a thread per listener. Anybody may connect to a health check node port, so a
connection has a deadline, a request a size, and a listener a number of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
from collections.abc import Awaitable, Callable, Iterable

from msgspec import Struct

REQUEST_SECONDS = 10.0  # from connecting to the last byte of the answer
REQUEST_BYTES = 16 * 1024
CONNECTIONS = 128  # of one listener at a time; more are closed at once
BACKLOG = 128
TEXT, JSON = "text/plain; charset=utf-8", "application/json"


class Response(Struct, frozen=True):
    """What a handler answers."""

    body: str | bytes
    status: int = 200
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = (("X-Content-Type-Options", "nosniff"),)


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


class Server:
    """Answers on one listening socket with `handler`."""

    def __init__(self, opened: socket.socket, handler: Handler) -> None:
        self._socket = opened
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Answers from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket, limit=REQUEST_BYTES)

    def close(self) -> None:
        """Stops listening at once and drops whoever is connected."""
        if self._server is None:
            self._socket.close()
        else:
            self._server.close()
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(writer)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(REQUEST_SECONDS):
                    await self._answer(reader, writer)
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            head = b""
        method, path = _request(head)
        if method == "":
            response = BAD_REQUEST
        elif method not in ("GET", "HEAD"):
            response = NOT_ALLOWED
        else:
            response = await self._handler(path)
        writer.write(_rendered(response, body=method != "HEAD"))
        writer.write_eof()
        await writer.drain()
        await reader.read(1)  # the client closes first, so that its last bytes do not turn the answer into a reset


def _request(head: bytes) -> tuple[str, str]:
    """Method and path of a request's first line; ("", "") for what is none."""
    parts = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return "", ""
    return parts[0], parts[1].partition("?")[0]


def _rendered(response: Response, *, body: bool) -> bytes:
    payload = response.body.encode() if isinstance(response.body, str) else response.body
    lines: Iterable[tuple[str, str]] = (
        ("Content-Type", response.content_type),
        *response.headers,
        ("Content-Length", str(len(payload))),
        ("Connection", "close"),
    )
    phrase = http.HTTPStatus(response.status).phrase
    head = f"HTTP/1.1 {response.status} {phrase}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines)
    return head.encode("latin-1") + b"\r\n" + (payload if body else b"")
