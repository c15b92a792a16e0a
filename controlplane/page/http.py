"""A small HTTP/1.1 server on asyncio streams: GET and HEAD, one request for a connection, answers or streams of events.

Browsers come here, and whoever else reaches the address. A request has a size and a time; a client that does not take
what is sent to it for `WRITE_SECONDS` is let go; one address has at most as many connections as are left for others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from urllib.parse import parse_qsl

from msgspec import Struct

from deltaplane import http1
from deltaplane.http1 import TEXT
from deltaplane.shares import Shares

CONNECTIONS = 128
REQUEST_SECONDS = 10.0  # for the request, and again for the answer to it
WRITE_SECONDS = 15.0  # that a client may take nothing of a stream
REQUEST_BYTES = 32 * 1024  # a person's token is in it
MOST_FIELDS = 20
BACKLOG = 128


class Request(Struct, frozen=True):
    """`headers` by their names in small letters. `client`: the address; empty on a unix socket."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    client: str = ""


class Response(Struct, frozen=True):
    """An answer, or with `stream` its beginning: what that yields goes out as it comes."""

    body: bytes = b""
    status: int = 200
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()
    stream: AsyncGenerator[bytes, None] | None = None


def said(status: int, text: str) -> Response:
    """One line for a person."""
    return Response(f"{text}\n".encode(), status)


Handler = Callable[[Request], Awaitable[Response]]


class Server:
    """Answers with `handler`. Its headers go with every answer."""

    def __init__(self, handler: Handler, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._handler, self._headers = handler, headers
        self._shares = Shares[str]()
        self._open: set[asyncio.StreamWriter] = set()
        self.refused = 0  # connections of addresses that had their share

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For `asyncio.start_server`."""
        peer = writer.get_extra_info("peername")
        client = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._shares.fits(client, CONNECTIONS - len(self._shares)):
            self.refused += 1
            writer.transport.abort()
            return
        self._open.add(writer)
        self._shares.enter(client)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._serve(reader, writer, client)
        finally:
            self._shares.leave(client)
            self._open.discard(writer)
            writer.transport.abort()

    def close(self) -> None:
        """Ends the connections that are open."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str) -> None:
        async with asyncio.timeout(REQUEST_SECONDS):
            method, request = await _request(reader, client)
        response = await self._answer(method, request)
        body = method != "HEAD"
        async with asyncio.timeout(REQUEST_SECONDS):
            writer.write(self._head(response) + (response.body if body else b""))
            await writer.drain()
        if response.stream is not None and body:
            async with aclosing(response.stream) as parts:
                await _pour(parts, reader, writer)
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await reader.read(1)  # the client closes first: its last bytes do not turn the answer into a reset

    async def _answer(self, method: str, request: Request | None) -> Response:
        if request is None:
            return said(400, "this is no HTTP/1 request, or a larger one than is taken")
        if method not in ("GET", "HEAD"):
            return said(405, "only GET and HEAD are answered here")
        return await self._handler(request)

    def _head(self, response: Response) -> bytes:
        length = () if response.stream is not None else (("Content-Length", str(len(response.body))),)
        lines = (("Content-Type", response.content_type), *self._headers, *response.headers, *length)
        return http1.answer_head(response.status, lines)


async def _pour(parts: AsyncGenerator[bytes, None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until they end, the client goes, or takes nothing for `WRITE_SECONDS`."""
    gone = asyncio.ensure_future(reader.read(1))
    try:
        while (part := await _next(parts, gone)) is not None:
            writer.write(part)
            async with asyncio.timeout(WRITE_SECONDS):
                await writer.drain()
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


async def _next(parts: AsyncGenerator[bytes, None], gone: asyncio.Future[bytes]) -> bytes | None:
    """The next part; None: there is none, or the client is gone."""
    coming: asyncio.Future[bytes | None] = asyncio.ensure_future(anext(parts, None))
    try:
        await asyncio.wait((coming, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
    return None if coming.cancelled() or gone.done() else coming.result()


async def _request(reader: asyncio.StreamReader, client: str) -> tuple[str, Request | None]:
    """Method and request; None for what is none."""
    head = await http1.read_head(reader)
    method, target = http1.request_line(head)
    if (method, target) == ("", ""):
        return "", None
    path, _, query = target.partition("?")
    fields = (line.partition(":") for line in head.decode("latin-1").rstrip("\r\n").split("\r\n")[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    try:
        asked = dict(parse_qsl(query, max_num_fields=MOST_FIELDS))
    except ValueError:
        return "", None
    return method, Request(path, asked, headers, client)
