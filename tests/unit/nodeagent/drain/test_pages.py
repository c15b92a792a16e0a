"""GET /drain over real sockets, in both families."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from deltaplane.addresses import parse_address
from nodeagent.drain.callers import Caller, Place, caller
from nodeagent.drain.figures import DrainFigures
from nodeagent.drain.pages import DrainServer, said
from nodeagent.drain.questions import Outcome, Questions
from nodeagent.drain.upstream import Answer, Late
from nodeagent.web.connections import Connections
from nodeagent.web.server import listen_everywhere
from tests.unit.nodeagent.drain.test_questions import Own, Plane

FAMILIES = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])


@asynccontextmanager
async def served(
    questions: Questions, seconds: float = 30.0, figures: DrainFigures | None = None
) -> AsyncIterator[int]:
    opened, counted = listen_everywhere("", 0), figures or DrainFigures(int)
    everybody = Connections[asyncio.StreamWriter]()
    server = DrainServer(opened, questions, counted, seconds=seconds, everybody=everybody)
    await server.start()
    try:
        yield opened.getsockname()[1]
    finally:
        server.close()


async def get(host: str, port: int, path: str = "/drain") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        return int(head.split(" ")[1]), body
    finally:
        writer.close()
        await writer.wait_closed()


async def hangs_up(port: int, plane: Plane, ended: Callable[[], bool]) -> None:
    """A caller that goes once its question is asked; returns when it has ended."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /drain HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(10):
        while not plane.asked:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        writer.close()
        while not ended():  # noqa: ASYNC110 - nor of this
            await asyncio.sleep(0.01)


@FAMILIES
async def test_the_callers_own_address_is_the_question(host: str) -> None:
    plane = Plane()
    async with served(Questions(Own(), plane.gone)) as port:
        status, body = await get(host, port)
    assert (status, plane.asked) == (200, [host])
    assert "gets no new connections from any of 3 nodes, after" in body


@FAMILIES
async def test_a_caller_with_the_nodes_own_address_is_refused_with_the_reason(host: str) -> None:
    class Here(Own):
        async def caller(self, address: bytes) -> Caller:
            return caller(address, Place("a", frozenset({parse_address("192.0.2.1")})), [])

    async with served(Questions(Here(), Plane().gone)) as port:
        status, body = await get(host, port)
    assert status == 403
    assert body.startswith(f"{host} is this node's own address, which hostNetwork Pods")


async def test_another_path_is_no_question() -> None:
    plane = Plane()
    async with served(Questions(Own(), plane.gone)) as port:
        assert (await get("127.0.0.1", port, "/drain/shop/web-1"))[0] == 404
        assert (await get("127.0.0.1", port, "/"))[0] == 404
    assert plane.asked == []


async def test_a_pod_that_is_still_used_gets_504_with_the_service_and_the_reason() -> None:
    own = Own()
    own.using = "Service shop/web still sends to it: it is ready"
    async with served(Questions(own, Plane().gone), seconds=0.05) as port:
        status, body = await get("127.0.0.1", port)
    assert status == 504
    assert body.splitlines()[1] == own.using


async def test_a_caller_that_hangs_up_is_waited_for_no_longer() -> None:
    plane = Plane(open_=False)
    questions = Questions(Own(), plane.gone)
    async with served(questions) as port:
        await hangs_up(port, plane, lambda: not len(questions))


async def test_connections_that_are_opened_and_left_leave_nothing_behind() -> None:
    plane = Plane(open_=False)
    questions = Questions(Own(), plane.gone)
    async with served(questions) as port:
        for _ in range(50):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /drain HTTP/1.1\r\n\r\n")
            writer.transport.abort()
        async with asyncio.timeout(10):
            while len(questions) or len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - nor of this
                await asyncio.sleep(0.01)


def test_nodes_that_are_late_are_named_with_their_reasons() -> None:
    late = tuple(Late(f"n{number}", "disconnected for 9.0 s") for number in range(25))
    answer = said("10.0.0.1", Outcome(Answer(gone=False, nodes=40, late=late, more=3), 25.0))
    assert answer.status == 504
    lines = str(answer.body).splitlines()
    assert lines[0] == "10.0.0.1 may still get new connections, after 25.00 s"
    assert lines[1] == "node n0: disconnected for 9.0 s"
    assert lines[-1] == "and 8 more"
