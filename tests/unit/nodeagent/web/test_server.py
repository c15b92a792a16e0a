"""The responder: requests of every kind, limits, and addresses that are taken or wanted in both families."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import urllib.request
from contextlib import AsyncExitStack

import pytest

from nodeagent.errors import AgentError
from nodeagent.web import server
from nodeagent.web.connections import OF_ONE_CLIENT, Connections
from nodeagent.web.listener import serve
from nodeagent.web.server import Response, listen, listen_everywhere
from tests.unit.nodeagent.web.client import Served, exchange, get
from tools.lab.ports import free_port


async def echo(path: str) -> Response:
    return Response(path)


async def test_an_answer() -> None:
    async with Served(echo) as port:
        answer = await get(port, "/some/path?with=query")

    assert (answer.status, answer.body) == (200, "/some/path")
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["Connection"] == "close"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_head_has_no_body() -> None:
    async with Served(echo) as port:
        answer = await get(port, "/path", method="HEAD")

    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, "", "5")


@pytest.mark.parametrize(
    "request_bytes, status",
    [
        (b"POST / HTTP/1.1\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /" + b"a" * (server.REQUEST_BYTES + 10) + b" HTTP/1.1\r\n\r\n", b"400"),
    ],
    ids=["method", "garbage", "no version", "another version", "old version", "too long"],
)
async def test_requests_of_other_kinds(request_bytes: bytes, status: bytes) -> None:
    async with Served(echo) as port:
        assert (await exchange(port, request_bytes)).split(b" ")[1] == status


async def test_a_client_of_the_standard_library_is_content() -> None:
    def fetch(port: int) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/x") as answer:
            data: bytes = answer.read()
            return data

    async with Served(echo) as port:
        assert await asyncio.to_thread(fetch, port) == b"/x"


async def test_who_sends_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.05)
    async with Served(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HT")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_who_keeps_connections_open_loses_its_oldest_and_probes_are_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    everybody = Connections[asyncio.StreamWriter]()
    async with Served(echo, everybody) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(400)]
        for _ in range(20):
            assert (await get(port)).status == 200
        assert await asyncio.wait_for(idle[0][0].read(), 10) == b""
        assert len(everybody) <= OF_ONE_CLIENT
        assert everybody.ended >= 400 - OF_ONE_CLIENT
        for _, writer in idle:
            writer.close()
    assert len([record for record in caplog.records if "too many connections" in record.getMessage()]) == 1


async def test_a_client_of_many_listeners_does_not_take_the_process_its_files() -> None:
    everybody = Connections[asyncio.StreamWriter](most=32)
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(Served(echo, everybody)) for _ in range(10)]
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(15) for port in ports]
        for port in ports:
            assert (await get(port)).status == 200
        assert len(everybody) <= 32
        for _, writer in idle:
            writer.close()


async def test_closing_drops_who_is_connected() -> None:
    served = Served(echo)
    async with served as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_either_wildcard_takes_both_families(host: str) -> None:
    with listen_everywhere(host, 0) as opened:
        port = opened.getsockname()[1]
        for client in ("127.0.0.1", "::1"):
            with socket.create_connection((client, port), timeout=5):
                pass


def test_one_familys_wildcard_leaves_the_other_free() -> None:
    with listen("0.0.0.0", 0) as four, listen("::", four.getsockname()[1]) as six:
        assert four.getsockname()[1] == six.getsockname()[1]


async def test_a_taken_address_is_tried_again_until_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        task = asyncio.create_task(
            serve(f"127.0.0.1:{port}", "metrics-bind-address", echo, hard_fail=False, retry=0.01)
        )
        await asyncio.sleep(0.1)
    await _answers(port)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert [record.message for record in caplog.records if "cannot listen" in record.message] == [
        f'cannot listen; retrying flag=metrics-bind-address address=127.0.0.1:{port} reason="Address already in use"'
    ]
    with pytest.raises(ConnectionRefusedError):
        await get(port)


async def test_a_taken_address_is_the_end_where_that_is_asked_for() -> None:
    with listen("127.0.0.1", 0) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AgentError, match=f"--healthz-bind-address={address}: Address already in use"):
            await serve(address, "healthz-bind-address", echo, hard_fail=True)


async def _answers(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await get(port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                return


async def test_curl_is_content() -> None:
    async with Served(echo) as port:
        done = await asyncio.to_thread(
            subprocess.run, ["curl", "-sS", "-i", f"http://127.0.0.1:{port}/y"], check=True, capture_output=True
        )
    assert done.stdout.endswith(b"\r\n\r\n/y")
    assert free_port() > 0
