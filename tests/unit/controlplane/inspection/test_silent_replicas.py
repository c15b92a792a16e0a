"""A node's stream moved to a replica that is silent now: no answer takes what others knew of it for new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1 import views_pb2
from tests.unit.controlplane.inspection.test_everywhere import Agent, Three, three

RESOLVE = inspection.ResolveForNodeRequest(node_name="n1", namespace="ns", name="svc-1")


async def ended(agent: Agent) -> None:
    agent.task.cancel()
    await asyncio.gather(agent.task, return_exceptions=True)


@asynccontextmanager
async def moved() -> AsyncIterator[tuple[Three, str]]:
    """n1's stream was at replica 0 and went back to replica 1, which has ended. Gives that one's address, too."""
    async with three() as world:
        await ended(world.agents[1])
        world.agents[1] = Agent("n1", world.replicas[0])
        await asyncio.wait_for(world.agents[1].acked.wait(), 20)
        await ended(world.agents[1])
        world.agents[1] = Agent("n1", world.replicas[1])
        await asyncio.wait_for(world.agents[1].acked.wait(), 20)
        world.change()
        await world.replicas[1].end()
        yield world, world.replicas[1].address


async def test_what_a_silent_replica_may_know_better_is_in_each_answer_about_the_node() -> None:
    connection = views_pb2.Connection(source="10.0.0.9", address="10.96.0.1", port=80)
    async with moved() as (world, silent):
        ask = world.replicas[0].ask
        answers = [
            (await ask.ResolveForNode(RESOLVE)).basis,
            (await ask.Explain(inspection.ExplainRequest(node_name="n1", connection=connection))).basis,
            (await ask.Diff(inspection.DiffRequest(node_name="n1", other_node_name="n0"))).node,
            (await ask.GetNode(inspection.GetNodeRequest(node_name="n1"))).status,
            next(each for each in (await ask.ListNodes(inspection.ListNodesRequest())).nodes if each.node_name == "n1"),
        ]
        other = (await ask.Diff(inspection.DiffRequest(node_name="n1", other_node_name="n0"))).other

    assert [list(each.silent_replicas) for each in answers] == [[silent]] * len(answers)
    assert not other.silent_replicas  # its stream is open here


async def test_where_all_replicas_answer_nothing_is_in_doubt() -> None:
    async with three() as world:
        await ended(world.agents[1])
        answer = await world.replicas[0].ask.ResolveForNode(RESOLVE)

    assert not answer.basis.silent_replicas


async def test_of_two_open_streams_the_replica_of_the_newer_one_answers() -> None:
    """The agent went to another replica, and the first one has not noticed."""
    async with three() as world:
        newer = Agent("n1", world.replicas[0])
        await asyncio.wait_for(newer.acked.wait(), 20)
        newer.acked.clear()
        world.agents[1].acks.clear()
        world.change()
        await asyncio.wait_for(newer.acked.wait(), 20)
        asked = await world.replicas[1].ask.ResolveForNode(RESOLVE)
        best = await world.replicas[0].ask.GetStatus(inspection.GetStatusRequest())
        await ended(newer)

    assert (asked.basis.server_id, list(asked.basis.changed)) == (best.server_id, [])


@pytest.mark.parametrize(
    ("connection", "code"),
    [
        (views_pb2.Connection(source="fd00::1", address="10.96.0.1", port=80), grpc.StatusCode.INVALID_ARGUMENT),
        (views_pb2.Connection(source="10.0.0.9", address="10.96.0.1", port=0), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_is_wrong_with_a_question_is_said_alike_wherever_the_nodes_stream_is(
    connection: views_pb2.Connection, code: grpc.StatusCode
) -> None:
    request = inspection.ExplainRequest(node_name="n1", connection=connection)
    async with three() as world:
        said = []
        for replica in world.replicas[:2]:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await replica.ask.Explain(request)
            said.append((failure.value.code(), failure.value.details()))

    assert said[0] == said[1]
    assert said[0][0] is code


async def test_a_service_that_the_nodes_replica_does_not_know_yet_is_not_found_and_no_replica_is_away() -> None:
    async with three() as world:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await world.replicas[0].ask.ResolveForNode(
                inspection.ResolveForNodeRequest(node_name="n1", namespace="ns", name="none")
            )

    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
