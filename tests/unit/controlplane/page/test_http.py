"""The page's HTTP server answers what it should, refuses the rest, and lets nobody hold it for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from controlplane.page import http
from controlplane.page.http import Request, Response, Server, said

LIMIT = 20.0


class Site:
    """Answers with what it was asked; /stream has as many parts as a test puts into it."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.ended = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path == "/stream":
            return Response(content_type="text/event-stream", stream=self._stream())
        return said(200, request.path)

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        try:
            while (part := await self.parts.get()) is not None:
                yield part
        finally:
            self.ended.set()


@asynccontextmanager
async def serving(site: Callable[[Request], Awaitable[Response]]) -> AsyncIterator[tuple[Server, int]]:
    server = Server(site, (("X-Own", "yes"),))
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0, limit=http.REQUEST_BYTES)
    try:
        yield server, listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        server.close()


async def ask(port: int, text: bytes) -> bytes:
    """Everything that is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    try:
        async with asyncio.timeout(LIMIT):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_request_is_answered_with_its_own_headers_and_the_servers() -> None:
    site = Site()
    async with serving(site) as (_, port):
        answer = await ask(port, b"GET /a?x=1&y=a%20b HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Own: yes" in head
    assert b"Content-Length: 3" in head
    assert body == b"/a\n"
    assert site.asked[0].query == {"x": "1", "y": "a b"}
    assert site.asked[0].headers["authorization"] == "Bearer t"
    assert site.asked[0].client == "127.0.0.1"


async def test_head_has_no_body_and_a_stream_is_not_begun_for_it() -> None:
    async with serving(Site()) as (_, port):
        assert (await ask(port, b"HEAD /a HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")
        assert (await ask(port, b"HEAD /stream HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "text, status",
    [
        (b"POST / HTTP/1.1\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / SPDY/3\r\n\r\n", b"400"),
        (b"GET /?" + b"&".join(b"a%d=1" % n for n in range(100)) + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_request_is_refused(text: bytes, status: bytes) -> None:
    site = Site()
    async with serving(site) as (_, port):
        answer = await ask(port, text)

    assert answer.split(b" ", 2)[1:2] in ([status], [])  # nothing, where the client still wrote when it ended
    assert site.asked == []


async def test_who_sends_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.1)
    async with serving(Site()) as (_, port):
        assert await ask(port, b"GET / HTTP/1.1\r\n") == b""


async def test_parts_of_a_stream_go_out_as_they_come_and_it_ends_with_the_client() -> None:
    site = Site()
    async with serving(site) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /stream HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b"\r\n\r\n")
            site.parts.put_nowait(b"one")
            assert await reader.readexactly(3) == b"one"
            writer.close()
            while not site.ended.is_set():
                site.parts.put_nowait(b"more")
                await asyncio.sleep(0.01)


async def test_who_takes_nothing_of_a_stream_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WRITE_SECONDS", 0.1)
    site = Site()
    async with serving(site) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /stream HTTP/1.1\r\n\r\n")
        for _ in range(50):
            site.parts.put_nowait(b"x" * 1_000_000)
        async with asyncio.timeout(LIMIT):
            await site.ended.wait()
        writer.close()


async def test_one_address_has_at_most_as_many_connections_as_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS", 4)
    site = Site()
    async with serving(site) as (server, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in held:
            writer.write(b"GET /stream HTTP/1.1\r\n\r\n")
        for reader, _ in held:
            await reader.readuntil(b"\r\n\r\n")
        assert await ask(port, b"GET / HTTP/1.1\r\n\r\n") == b""
        assert server.refused == 1
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(LIMIT):
            while not await ask(port, b"GET / HTTP/1.1\r\n\r\n"):
                site.parts.put_nowait(b"more")
