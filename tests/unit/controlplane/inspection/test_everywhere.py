"""Three replicas over gRPC on loopback: each answers for the whole cluster, and names who does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from controlplane.cluster import Cluster
from controlplane.facts import Fact
from controlplane.inspection import waiting
from controlplane.inspection.waits import Waiter
from controlplane.log import Log
from controlplane.replica_places import Named, Unfound
from controlplane.server import STREAM, Server
from controlplane.trace import NoTracing
from deltaplane.model import Kind, Node, ObjectKey
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1 import objects_pb2
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub
from deltaplane.views import key_message
from tests.sessions import objects
from tools.lab.ports import free_port

SERVICE = inspection.ObjectVersion(key=key_message(objects.service_key(1)))
REPLICAS = 3


class Replica:
    """A server with a state of its own, which the test moves on."""

    def __init__(self, ports: list[int], place: int) -> None:
        self.address = f"127.0.0.1:{ports[place]}"
        self.cluster = Cluster(Log(), NoTracing())
        self.server = Server(
            self.address, self.cluster, NoTracing(), finder=Named([f"127.0.0.1:{port}" for port in ports])
        )

    async def begin(self) -> None:
        for kind in Kind:
            self.cluster.synced(kind)
        await self.server.start()
        self.running = asyncio.create_task(self.server.run())
        self.channel = grpc.aio.insecure_channel(self.address)
        self.ask: Any = InspectionServiceStub(self.channel)

    async def end(self) -> None:
        self.running.cancel()
        await self.channel.close()
        await self.server.stop()


class Agent:
    """A node's agent that acknowledges what it has received when `acks` is set."""

    def __init__(self, name: str, replica: Replica) -> None:
        self.acks = asyncio.Event()
        self.acks.set()
        self.acked = asyncio.Event()
        self._name, self._replica = name, replica
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        call = self._replica.channel.stream_stream(
            f"/{STREAM}/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )()
        hello = pb.Hello(node_name=self._name, agent_instance=self._name, protocol_min=1, protocol_max=1)
        await call.write(pb.WatchRequest(hello=hello))
        with suppress(grpc.aio.AioRpcError):
            async for message in call:
                rev = message.delta.to_rev or message.snapshot_end.rev
                if rev:
                    await self.acks.wait()
                    await call.write(pb.WatchRequest(ack=acked(rev)))
                    self.acked.set()


def acked(rev: int) -> pb.Ack:
    return pb.Ack(received_rev=rev, applied_rev=rev, commits=[pb.CommitReport(to_rev=rev)])


class Three:
    """Three replicas, with one node each: n0, n1, n2."""

    def __init__(self) -> None:
        ports = [free_port() for _ in range(REPLICAS)]
        self.replicas = [Replica(ports, place) for place in range(REPLICAS)]
        self.agents: list[Agent] = []
        self._number = 0

    def change(self, *places: int) -> str:
        """A Service changes, as these replicas (all where none is said) see it; returns its resourceVersion."""
        self._number += 1
        for place in places or range(REPLICAS):
            fact = Fact(objects.service_key(1), objects.service(1, self._number), str(100 + self._number))
            self.replicas[place].cluster.update([fact])
        return str(100 + self._number)

    async def wait(self, place: int = 0, seconds: float = 10.0, **fields: Any) -> inspection.WaitAppliedResponse:
        request = inspection.WaitAppliedRequest(timeout_seconds=seconds, **fields)
        last = inspection.WaitAppliedResponse()
        async for message in self.replicas[place].ask.WaitApplied(request):
            last = message
        return last


@asynccontextmanager
async def three(version: str = "50") -> AsyncIterator[Three]:
    """`version`: of the nodes; empty: nothing has a version, as in a folder of manifests."""
    found = Three()
    nodes = [Fact(ObjectKey(Kind.NODE, "", f"n{n}"), Node(f"n{n}"), version) for n in range(REPLICAS)]
    for replica in found.replicas:
        replica.cluster.update(nodes)
        if not version:
            replica.cluster.update([Fact(objects.service_key(1), objects.service(1), "")])
    if version:
        found.change()
    for replica in found.replicas:
        await replica.begin()
    found.agents = [Agent(f"n{n}", replica) for n, replica in enumerate(found.replicas)]
    async with asyncio.timeout(20):
        for agent in found.agents:
            await agent.acked.wait()
    try:
        yield found
    finally:
        for agent in found.agents:
            agent.task.cancel()
        await asyncio.gather(*(agent.task for agent in found.agents), return_exceptions=True)
        for replica in found.replicas:
            with suppress(AttributeError):
                await replica.end()


def reasons(answer: inspection.WaitAppliedResponse) -> dict[str, str]:
    return {
        one.node_name: inspection.LackReason.Name(one.reason).removeprefix("LACK_REASON_") for one in answer.lacking
    }


@pytest.mark.parametrize("place", range(REPLICAS))
async def test_any_replica_lists_all_nodes_and_all_replicas(place: int) -> None:
    async with three() as world:
        ask = world.replicas[place].ask
        nodes = await ask.ListNodes(inspection.ListNodesRequest())
        status = await ask.GetStatus(inspection.GetStatusRequest())
        node = await ask.GetNode(inspection.GetNodeRequest(node_name=f"n{(place + 1) % REPLICAS}"))

    assert [each.node_name for each in nodes.nodes] == ["n0", "n1", "n2"]
    assert len({each.server_id for each in nodes.nodes}) == REPLICAS
    assert not nodes.without_agent
    assert [each.error for each in nodes.replicas] == [""] * REPLICAS
    assert len({each.server_id for each in status.replicas}) == REPLICAS
    assert len({each.digest for each in status.replicas}) == 1
    assert node.status.applied_rev > 0


async def test_the_replica_that_had_a_nodes_stream_answers_what_the_node_has() -> None:
    async with three() as world:
        world.agents[1].task.cancel()
        await asyncio.gather(world.agents[1].task, return_exceptions=True)
        world.change()
        request = inspection.ResolveForNodeRequest(node_name="n1", namespace="ns", name="svc-1")
        answer = await world.replicas[0].ask.ResolveForNode(request)
        owner = await world.replicas[1].ask.GetStatus(inspection.GetStatusRequest())

    assert (answer.basis.server_id, answer.basis.acknowledged) == (owner.server_id, True)
    assert [key.name for key in answer.basis.changed] == ["svc-1"]


async def test_everywhere_is_said_once_the_last_replicas_last_node_has_it() -> None:
    async with three() as world:
        world.agents[2].acks.clear()
        version = world.change()
        what = inspection.ObjectVersion(key=SERVICE.key, resource_version=version)
        held = asyncio.ensure_future(world.wait(0, object=what))
        assert (await world.wait(1, object=what, nodes=inspection.NodeSelection(names=["n0", "n1"]))).applied
        assert not held.done()

        world.agents[2].acks.set()
        answer = await held

        world.agents[2].task.cancel()
        nodes = world.replicas[2].server.nodes
        while any(session.closed is None for session in nodes):  # noqa: ASYNC110 - the replica notices
            await asyncio.sleep(0.01)
        later = await world.wait(0, object=what)

    assert (answer.applied, answer.nodes_applied, list(answer.without_stream)) == (True, 3, [])
    assert (later.applied, later.nodes_applied, list(later.without_stream)) == (True, 3, ["n2"])


async def test_what_the_asked_replica_has_and_another_has_not_seen_is_waited_for() -> None:
    async with three() as world:
        world.change(0, 1)
        answer = await world.wait(0, 1.0, object=SERVICE)
        assert not answer.applied
        assert reasons(answer) == {"n2": "REPLICA_BEHIND"}
        assert "this replica has version" in answer.lacking[0].text

        whole = asyncio.ensure_future(world.wait(0, revision=inspection.RevisionOf()))
        world._number -= 1
        world.change(2)
        assert (await whole).applied
        assert (await world.wait(0, object=SERVICE)).applied


async def test_a_replica_that_does_not_answer_is_named_and_its_nodes_with_it() -> None:
    async with three() as world:
        world.agents[2].task.cancel()
        await world.replicas[2].end()
        version = world.change(0, 1)
        what = inspection.ObjectVersion(key=SERVICE.key, resource_version=version)

        others = inspection.NodeSelection(names=["n0", "n1"])
        assert (await world.wait(0, 20.0, object=what, nodes=others)).applied
        answer = await world.wait(0, 1.5, object=what)
        nodes = await world.replicas[0].ask.ListNodes(inspection.ListNodesRequest())

        assert reasons(answer) == {"n2": "REPLICA_SILENT"}
        assert world.replicas[2].address in answer.lacking[0].text
        for replicas in (answer.replicas, nodes.replicas):
            silent = [each for each in replicas if each.error]
            assert [each.address for each in silent] == [world.replicas[2].address]
        assert [each.node_name for each in nodes.nodes] == ["n0", "n1"]
        assert list(nodes.without_agent) == ["n2"]


async def test_a_node_that_moves_to_another_replica_while_it_is_waited_for_counts_there() -> None:
    async with three() as world:
        world.agents[2].acks.clear()
        world.change()
        held = asyncio.ensure_future(world.wait(0, object=SERVICE))
        await asyncio.sleep(0.3)  # the peers are asked
        world.agents[2].task.cancel()
        world.agents.append(Agent("n2", world.replicas[1]))
        assert (await held).applied


@pytest.mark.parametrize("with_object", [True, False], ids=["with its Node object", "without one"])
async def test_a_node_that_joins_at_another_replica_while_it_is_waited_for_is_waited_for_too(with_object: bool) -> None:
    async with three() as world:
        world.agents[0].acks.clear()
        world.change()
        held = asyncio.ensure_future(world.wait(0, 20.0, object=SERVICE))
        waits = world.replicas[0].server.waits
        while len(waits) == 0:  # noqa: ASYNC110 - the call is on its way
            await asyncio.sleep(0.01)
        for replica in world.replicas if with_object else []:
            replica.cluster.update([Fact(ObjectKey(Kind.NODE, "", "n3"), Node("n3"), "60")])
        world.agents.append(Agent("n3", world.replicas[1]))
        world.agents[3].acks.clear()
        (waiter,) = waits._waiters
        async with asyncio.timeout(15):
            while "n3" not in waiter.selection.names():  # noqa: ASYNC110 - its replica says so in time
                await asyncio.sleep(0.01)
        world.agents[0].acks.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(held)
        world.agents[3].acks.set()
        answer = await held
        assert (answer.applied, answer.chosen_nodes) == (True, 4)


async def test_explain_and_resync_go_to_the_replica_that_has_the_node() -> None:
    async with three() as world:
        request = inspection.ResolveForNodeRequest(node_name="n2", namespace="ns", name="svc-1")
        answer = await world.replicas[0].ask.ResolveForNode(request)
        again = await world.replicas[0].ask.ForceResync(inspection.ForceResyncRequest(node_name="n2"))
        mine = world.replicas[2].server._here
        assert (answer.basis.server_id, answer.basis.acknowledged) == (mine.server_id, True)
        assert again.server_id == mine.server_id
        with pytest.raises(grpc.aio.AioRpcError, match="node n9 has no agent at any replica"):
            await world.replicas[0].ask.ForceResync(inspection.ForceResyncRequest(node_name="n9"))


async def test_commits_of_all_replicas_come_and_a_filter_counts_everywhere() -> None:
    async with three() as world:
        other = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="ns", name="svc-1")
        calls = world.replicas[0].ask.TailCommits(inspection.TailCommitsRequest(object=other))
        await calls.initial_metadata()
        found: set[str] = set()

        async def read() -> None:
            while len(found) < REPLICAS:
                found.add((await calls.read()).node_name)

        reading = asyncio.create_task(read())
        async with asyncio.timeout(10):
            while not reading.done():
                world.change()
                await asyncio.wait([reading], timeout=0.2)
        calls.cancel()
    assert found == {"n0", "n1", "n2"}


async def test_where_the_replicas_are_unknown_that_is_in_the_answer() -> None:
    class Lost:
        async def find(self) -> list[str]:
            raise Unfound("--replicas=service:a/b: no answer")

    async with three() as world:
        world.replicas[0].server._peers._finder = Lost()
        status = await world.replicas[0].ask.GetStatus(inspection.GetStatusRequest())
        answer = await world.wait(0, 0.5, object=SERVICE)
    assert [each.error for each in status.replicas] == ["", "--replicas=service:a/b: no answer"]
    assert reasons(answer) == {"n1": "REPLICA_SILENT", "n2": "REPLICA_SILENT"}


@pytest.mark.parametrize("what", ["object", "removed_address"])
async def test_a_peer_that_has_not_seen_what_a_service_has_lost_holds_up_the_answer(what: str) -> None:
    question: dict[str, Any] = {"object": SERVICE} if what == "object" else {"removed_address": "10.0.0.9"}
    piece = objects.slice_of(1, {1: objects.READY})
    async with three() as world:
        for replica in world.replicas:
            replica.cluster.update([Fact(piece.key, piece, "300")])
        assert (await world.wait(0, revision=inspection.RevisionOf())).applied
        for replica in world.replicas[:2]:
            replica.cluster.update([Fact(piece.key, None, "301")])
        answer = await world.wait(0, 1.0, **question)
        assert reasons(answer) == {"n2": "REPLICA_BEHIND"}
        world.replicas[2].cluster.update([Fact(piece.key, None, "301")])
        assert (await world.wait(0, **question)).applied


async def test_where_nothing_has_a_version_a_peer_that_has_a_slice_more_holds_up_the_answer_and_says_so() -> None:
    pieces = [objects.slice_of(number, {number: objects.READY}, owner=1) for number in (1, 2)]
    async with three("") as world:
        for replica in world.replicas:
            replica.cluster.update([Fact(piece.key, piece, "") for piece in pieces])
        assert (await world.wait(0, object=SERVICE)).applied
        for replica in world.replicas[:2]:
            replica.cluster.update([Fact(pieces[1].key, None, "")])
        answer = await world.wait(0, 1.0, object=SERVICE)
        assert reasons(answer) == {"n2": "REPLICA_BEHIND"}
        assert "EndpointSlice ns/svc-2-abc, which its peer has not" in answer.lacking[0].text
        world.replicas[2].cluster.update([Fact(pieces[1].key, None, "")])
        assert (await world.wait(0, object=SERVICE)).applied


async def test_a_replica_that_falls_silent_while_it_is_waited_for_is_named_and_not_what_it_said_before() -> None:
    async with three() as world:
        world.agents[2].acks.clear()
        world.change()
        held = asyncio.ensure_future(world.wait(0, 2.0, object=SERVICE))
        await asyncio.sleep(0.5)  # it has said once what its node lacks
        world.replicas[2].server.waits.moved = lambda: None  # type: ignore[method-assign]
        with paused(world.replicas[2]):
            answer = await held

        assert reasons(answer) == {"n2": "REPLICA_SILENT"}
        assert world.replicas[2].address in answer.lacking[0].text
        silent = next(each for each in answer.replicas if each.address == world.replicas[2].address)
        assert silent.error.startswith("it has said nothing for ")


@contextmanager
def paused(replica: Replica) -> Iterator[None]:
    """It says nothing more to who waits there."""
    servicer, real = replica.server.inspection, waiting.moved

    async def silent(waiter: Waiter, left: float, pause: float) -> None:
        await (asyncio.sleep(60) if waiter._here is servicer._here else real(waiter, left, pause))

    waiting.moved = silent
    try:
        yield
    finally:
        waiting.moved = real


async def test_a_stream_that_has_ended_unnoticed_gives_way_to_a_newer_one_at_another_replica() -> None:
    async with three() as world:
        world.agents[2].acks.clear()  # its replica shows it as connected
        await asyncio.sleep(0.5)  # ages of streams are compared: one is older by more than a message is on its way
        world.agents.append(Agent("n2", world.replicas[1]))
        await world.agents[3].acked.wait()
        world.change()
        for place in range(REPLICAS):
            answer = await world.wait(place, object=SERVICE)
            assert (answer.applied, answer.chosen_nodes) == (True, 3)

        world.agents[3].acks.clear()
        world.change()
        for place in range(REPLICAS):
            answer = await world.wait(place, 1.0, object=SERVICE)
            assert reasons(answer) == {"n2": "BEHIND"}
            assert answer.lacking[0].server_id == world.replicas[1].server._here.server_id


async def test_a_revision_of_another_replica_is_refused_with_whose_it_is_and_one_that_is_gone_with_what_to_ask() -> (
    None
):
    async with three() as world:
        theirs = world.replicas[1].server._here.epoch
        with pytest.raises(grpc.aio.AioRpcError, match=f"that of the replica at {world.replicas[1].address}") as other:
            await world.wait(0, revision=inspection.RevisionOf(rev=1, epoch=theirs))
        assert other.value.code() is grpc.StatusCode.INVALID_ARGUMENT

        world.agents[1].task.cancel()
        await world.replicas[1].end()
        with pytest.raises(grpc.aio.AioRpcError, match=f"{world.replicas[1].address} did not answer") as gone:
            await world.wait(0, revision=inspection.RevisionOf(rev=1, epoch=theirs))
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND
        assert "a replica starts anew" in str(gone.value.details())


async def test_who_waits_at_a_replica_that_is_stopped_hears_so_at_once() -> None:
    async with three() as world:
        world.agents[2].acks.clear()
        world.change()
        held = asyncio.ensure_future(world.wait(0, 60.0, object=SERVICE))
        while len(world.replicas[0].server.waits) == 0:  # noqa: ASYNC110 - the call is on its way
            await asyncio.sleep(0.01)
        await world.replicas[0].server.stop()
        with pytest.raises(grpc.aio.AioRpcError, match="this replica stops") as stopped:
            await held
        assert stopped.value.code() is grpc.StatusCode.UNAVAILABLE
