"""What answers at a replica's place is none: each question names it with the reason, and the others' answers count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from controlplane.peers import Peers, Plain
from controlplane.replica_places import Named
from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceServicer, add_InspectionServiceServicer_to_server
from tests.unit.controlplane.inspection.test_everywhere import Agent, Replica, reasons
from tools.lab.ports import free_port

ASKED = 8.0  # seconds for an answer: what each replica has for its own, and generous spare


class Liar(InspectionServiceServicer):
    """Says this status whatever is asked."""

    def __init__(self, status: inspection.GetStatusResponse) -> None:
        self._status = status

    async def GetStatus(self, request: Any, context: Any) -> inspection.GetStatusResponse:  # noqa: N802
        return self._status


@asynccontextmanager
async def lying(status: inspection.GetStatusResponse) -> AsyncIterator[str]:
    server, address = grpc.aio.server(), f"127.0.0.1:{free_port()}"
    add_InspectionServiceServicer_to_server(Liar(status), server)  # type: ignore[abstract]
    server.add_insecure_port(address)
    await server.start()
    yield address
    await server.stop(0)


@asynccontextmanager
async def answering(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A port that takes connections and reads. `answer` says something, or not."""

    open_ones: set[asyncio.StreamWriter] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        await answer(writer)
        with suppress(OSError, asyncio.CancelledError):
            while await reader.read(4096):
                pass
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in open_ones:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in open_ones), return_exceptions=True)


async def nothing(writer: asyncio.StreamWriter) -> None:
    """Takes connections and is silent."""


async def garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(range(256)) * 64)


@asynccontextmanager
async def wrong(kind: str) -> AsyncIterator[str]:
    ours = inspection.ReplicaStatus(server_id="x")
    statuses = {
        "another cluster": inspection.GetStatusResponse(server_id="x", cluster_id="theirs", replicas=[ours]),
        "empty": inspection.GetStatusResponse(),
        "nameless": inspection.GetStatusResponse(replicas=[ours]),
        "many": inspection.GetStatusResponse(server_id="x", cluster_id="ours", replicas=[ours] * 3),
    }
    way = lying(statuses[kind]) if kind in statuses else answering({"silent": nothing, "garbage": garbage}[kind])
    async with way as address:
        yield address


@asynccontextmanager
async def beside(place: str) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas of cluster "ours", which believe that a third is at that place."""
    ports = [free_port(), free_port()]
    made = [Replica(ports, number) for number in range(2)]
    async with AsyncExitStack() as stack:
        for each in made:
            each.cluster.identify("ours")
            each.server._peers._finder = Named([*(one.address for one in made), place])
            await each.begin()
            stack.push_async_callback(each.end)
        yield made[0], made[1]


KINDS = {
    "another cluster": "it is a replica of another cluster: 'theirs', not ours",
    "empty": "no replica",
    "nameless": "no replica",
    "many": "no replica",
    "silent": "DEADLINE_EXCEEDED",
    "garbage": "",
}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_replica_of_this_cluster_is_named_and_the_answers_of_the_others_count(kind: str) -> None:
    async with wrong(kind) as place, beside(place) as (first, second):
        agent = Agent("n1", second)
        await asyncio.wait_for(agent.acked.wait(), ASKED)
        async with asyncio.timeout(ASKED):
            status = await first.ask.GetStatus(inspection.GetStatusRequest())
            nodes = await first.ask.ListNodes(inspection.ListNodesRequest())
        errors = {each.address: each.error for each in status.replicas}
        assert set(errors) == {"", second.address, place}
        assert (errors[""], errors[second.address]) == ("", "")
        assert errors[place]
        assert KINDS[kind] in errors[place]
        assert [each.node_name for each in nodes.nodes] == ["n1"]
        assert {each.address for each in nodes.replicas if each.error} == {place}
        agent.task.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wait_and_a_tail_go_on_with_the_others(kind: str) -> None:
    async with wrong(kind) as place, beside(place) as (first, second):
        agent = Agent("n1", second)
        await asyncio.wait_for(agent.acked.wait(), ASKED)
        question = inspection.WaitAppliedRequest(timeout_seconds=ASKED, revision=inspection.RevisionOf())
        answers = [message async for message in first.ask.WaitApplied(question)]
        assert answers[-1].applied, reasons(answers[-1])
        async with asyncio.timeout(ASKED):
            tail = first.ask.TailCommits(inspection.TailCommitsRequest())
            async for message in tail:
                if message.missing.address == place:
                    break
            tail.cancel()
        assert KINDS[kind] in message.missing.error
        agent.task.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_no_agent_is_sent_there(kind: str) -> None:
    async with wrong(kind) as place:
        peers = Peers(Named([place]), Plain(), "mine", lambda: "ours")
        found = await peers.serves(place)
        await peers.close()
    assert found is not None
    assert found.fault
    assert KINDS[kind] in found.fault
