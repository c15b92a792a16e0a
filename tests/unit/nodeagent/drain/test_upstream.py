"""The question to the control plane, over a real gRPC server in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from deltaplane.v1 import inspection_pb2 as pb
from nodeagent.drain.callers import Refused
from nodeagent.drain.upstream import Answer, Late, Upstream
from nodeagent.stream.credentials import Plain
from nodeagent.stream.places import Place


class Replica:
    """Says each of these in turn: a status to end by, or a last message."""

    def __init__(self, *says: grpc.StatusCode | pb.WaitAppliedResponse) -> None:
        self.says, self.asked = list(says), list[pb.WaitAppliedRequest]()

    async def answer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.asked.append(request)
        say = self.says.pop(0)
        if isinstance(say, grpc.StatusCode):
            await context.abort(say, "because")
        yield pb.WaitAppliedResponse(chosen_nodes=2)
        yield say

    def handlers(self) -> grpc.GenericRpcHandler:
        """Of the one method."""
        method: Any = grpc.unary_stream_rpc_method_handler(
            self.answer,
            request_deserializer=pb.WaitAppliedRequest.FromString,
            response_serializer=pb.WaitAppliedResponse.SerializeToString,
        )
        service = pb.DESCRIPTOR.services_by_name["InspectionService"].full_name
        return grpc.method_handlers_generic_handler(service, {"WaitApplied": method})


@asynccontextmanager
async def served(replica: Replica) -> AsyncIterator[Place]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((replica.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Place(f"127.0.0.1:{port}")
    await server.stop(None)


async def at_once(_: float) -> None:
    """No pause between two tries."""


DONE = pb.WaitAppliedResponse(done=True, applied=True, chosen_nodes=2)
LATE = pb.WaitAppliedResponse(done=True, chosen_nodes=2, lacking=[pb.Lacking(node_name="b", text="2 s behind")])


async def test_it_asks_for_the_address_and_for_no_more() -> None:
    async with served(replica := Replica(DONE)) as place:
        assert await Upstream(Plain(), lambda: place, at_once).gone("10.0.0.1", 5.0) == Answer(gone=True, nodes=2)
    (asked,) = replica.asked
    assert {field.name for field, _ in asked.ListFields()} == {"removed_address", "timeout_seconds"}


async def test_nodes_that_are_late_are_named() -> None:
    async with served(Replica(LATE)) as place:
        answer = await Upstream(Plain(), lambda: place, at_once).gone("10.0.0.1", 5.0)
    assert (answer.gone, answer.late) == (False, (Late("b", "2 s behind"),))


async def test_a_replica_without_room_or_that_goes_is_asked_again() -> None:
    replica = Replica(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, DONE)
    async with served(replica) as place:
        assert (await Upstream(Plain(), lambda: place, at_once).gone("10.0.0.1", 20.0)).gone
    assert len(replica.asked) == 3


async def test_the_next_replica_is_asked_when_the_agent_follows_another() -> None:
    places: list[Place | None] = [None, Place("127.0.0.1:1")]
    async with served(Replica(DONE)) as place:
        places.append(place)
        upstream = Upstream(Plain(), lambda: places.pop(0), at_once)
        assert (await upstream.gone("10.0.0.1", 20.0)).gone


async def test_a_control_plane_that_says_no_is_not_asked_again() -> None:
    async with served(replica := Replica(grpc.StatusCode.PERMISSION_DENIED)) as place:
        with pytest.raises(Refused, match="the control plane refuses this agent's question: because") as refused:
            await Upstream(Plain(), lambda: place, at_once).gone("10.0.0.1", 20.0)
    assert (refused.value.status, len(replica.asked)) == (502, 1)


async def test_without_a_replica_the_answer_says_so() -> None:
    answer = await Upstream(Plain(), lambda: None).gone("10.0.0.1", 0.05)
    assert (answer.gone, answer.text) == (False, "this agent follows no replica")
