"""What the agent says on its own node: wanted, applied and read back; where the kernel differs, that is the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from msgspec.structs import replace

from controlplane.facts import Fact
from deltaplane.explain import Site
from deltaplane.model import Kind, Node, ObjectKey
from deltaplane.v1 import agent_pb2, agent_pb2_grpc, views_pb2
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.views import key_message
from nodeagent.agent import Agent
from nodeagent.config.settings import parse
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.errors import AgentError
from nodeagent.inspection.facts import Facts, site_of
from nodeagent.inspection.service import Inspection, agent_of, serve
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.handshake import Mode
from nodeagent.stream.link import Link
from tests.fakes.nftables.memory import MemoryKernel
from tests.sessions import objects
from tests.sessions.link import Replica

OWN = bytes((192, 168, 0, 1))
POD = bytes((10, 0, 0, 9))


class World:
    """An agent with a kernel in memory that has one Service with two endpoints; asked through a socket."""

    def __init__(self, dataplane: Any = None, *more: Fact) -> None:
        self.kernel = MemoryKernel()
        self.dataplane = dataplane or NftablesDataplane(self.kernel)
        self.dataplane.start()
        self.agent = Agent(NodeInfo("n1"), self.dataplane, mode=Mode("nftables"))
        replica = Replica()
        piece = objects.slice_of(1, {1: objects.READY, 2: objects.READY})
        node = Node("n1", addresses=(OWN,), pod_cidrs=("10.0.0.0/24",))
        replica.put(
            Fact(objects.service_key(1), objects.service(1)), Fact(piece.key, piece), Fact(node.key, node), *more
        )
        stream = replica.stream()
        stream.on_message(pb.WatchRequest.FromString(self.agent.connected(0.0)), 0.0)
        while (message := stream.next_message(0.0)) is not None:
            for answer in self.agent.received(message, 0.0):
                stream.on_message(pb.WatchRequest.FromString(answer), 0.0)
        self.settings = parse(["--server=127.0.0.1:1", "--insecure", "--cluster-cidr=10.0.0.0/8"])
        self.ask: Any

    def inspection(self) -> Inspection:
        async def turn(call: Callable[[], Any]) -> Any:
            return call()

        def site(facts: Facts) -> Site:
            return site_of(facts, self.settings, {OWN})

        return Inspection(turn, self.agent.facts, site)

    async def forwarding(self, **fields: Any) -> agent_pb2.GetForwardingResponse:
        answer: agent_pb2.GetForwardingResponse = await self.ask.GetForwarding(agent_pb2.GetForwardingRequest(**fields))
        return answer

    async def explained(self, address: str, port: int = 80) -> agent_pb2.ExplainHereResponse:
        connection = views_pb2.Connection(source="10.0.0.9", address=address, port=port)
        answer: agent_pb2.ExplainHereResponse = await self.ask.ExplainHere(
            agent_pb2.ExplainHereRequest(connection=connection)
        )
        return answer

    def take_away(self, part: str) -> None:
        """Another program deletes an element whose set's name has this part."""
        for table in self.kernel.tables.values():
            for name, held in table.sets.items():
                if part in name and held.elements:
                    del held.elements[next(iter(held.elements))]
                    return
        raise AssertionError(f"no set like {part}")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World()
    path = f"unix://{tmp_path}/agent.sock"
    serving = asyncio.create_task(serve(path, made.inspection()))
    async with grpc.aio.insecure_channel(path) as channel:
        await channel.channel_ready()
        made.ask = agent_pb2_grpc.AgentServiceStub(channel)
        yield made
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    made.agent.close()


async def test_the_agent_says_which_state_it_has(world: World) -> None:
    answer = await world.ask.GetAgent(agent_pb2.GetAgentRequest())
    assert (answer.node_name, answer.proxy_mode, answer.complete, answer.pending) == ("n1", "nftables", True, False)
    assert (answer.counts.services, answer.counts.endpoint_slices, answer.counts.nodes) == (1, 1, 1)
    assert answer.rev > 0


async def test_wanted_applied_and_read_back_are_the_same_where_nobody_else_was_at_it(world: World) -> None:
    answer = await world.forwarding(namespace="ns", name="svc-1")
    (frontend,) = answer.desired.frontends
    (applied,), (kernel,) = answer.applied, answer.kernel
    assert list(frontend.endpoints) == list(applied.endpoints) == list(kernel.endpoints) == [
        "10.0.0.1:8080", "10.0.0.2:8080",
    ]  # fmt: skip
    assert (list(answer.differences), answer.kernel_error) == ([], "")


async def test_a_service_is_found_by_one_of_its_frontends(world: World) -> None:
    answer = await world.forwarding(address="10.96.0.1", port=80)
    assert answer.desired.service.name == "svc-1"
    with pytest.raises(grpc.aio.AioRpcError, match=r"this agent has no Service at 10.96.0.2 80"):
        await world.forwarding(address="10.96.0.2", port=80)
    with pytest.raises(grpc.aio.AioRpcError, match="a namespace and name are needed"):
        await world.forwarding()


async def test_where_the_kernel_differs_that_is_the_answer(world: World) -> None:
    assert not (await world.explained("10.96.0.1")).differences
    world.take_away("service-ips")

    answer = await world.explained("10.96.0.1")

    assert answer.explanation.fate == views_pb2.FATE_REACHES
    assert any("wanted 10.0.0.1:8080, 10.0.0.2:8080" in each for each in answer.differences)
    assert any("another program changed it" in each for each in answer.differences)


async def test_a_frontend_that_the_kernel_has_and_no_service_wants_is_a_difference(world: World) -> None:
    facts = world.agent.facts()
    del facts.mirror.services["ns", "svc-1"]
    facts.frontends.put(objects.service_key(1), None)
    answer = await world.explained("10.96.0.1")
    assert answer.explanation.fate == views_pb2.FATE_NOT_SERVED
    assert any("wanted nothing; the kernel has 10.0.0.1:8080" in each for each in answer.differences)


async def test_a_table_that_went_cannot_be_read_and_the_answer_says_so(world: World) -> None:
    world.kernel.tables.clear()
    answer = await world.explained("10.96.0.1")
    assert "is not there" in answer.kernel_error


async def test_a_mode_that_cannot_be_read_back_says_that_it_is_not_cross_checked(world: World) -> None:
    facts = replace(world.agent.facts(), dataplane=Unreadable())
    world.agent.facts = lambda: facts  # type: ignore[method-assign]
    inspection = world.inspection()
    connection = views_pb2.Connection(source="10.0.0.9", address="10.96.0.1", port=80)
    answer = await inspection.ExplainHere(agent_pb2.ExplainHereRequest(connection=connection), None)  # type: ignore[arg-type]
    assert answer.kernel_error == "mode ipvs cannot be read back without writing to it"


class Unreadable:
    mode = "ipvs"

    def __init__(self, *, pending: bool = False) -> None:
        self._pending = pending

    def pending(self) -> bool:
        return self._pending


async def explained_by(world: World, facts: Facts) -> agent_pb2.ExplainHereResponse:
    world.agent.facts = lambda: facts  # type: ignore[method-assign]
    connection = views_pb2.Connection(source="10.0.0.9", address="10.96.0.1", port=80)
    request = agent_pb2.ExplainHereRequest(connection=connection)
    return await world.inspection().ExplainHere(request, None)  # type: ignore[arg-type]


async def failing(world: World, key: ObjectKey, *, readable: bool) -> agent_pb2.ExplainHereResponse:
    """The answer about svc-1 while an object is not in the kernel."""
    text = f"{key}: no room"  # as the drivers write it
    failed = [pb.ObjectFailure(key=key_message(key), text=text, code=pb.ERROR_CODE_KERNEL_REJECTED)]
    facts = replace(world.agent.facts(), failed=failed)
    return await explained_by(world, facts if readable else replace(facts, dataplane=Unreadable(pending=True)))


@pytest.mark.parametrize("readable", [True, False])
async def test_what_fails_elsewhere_is_no_difference_of_this_connection(world: World, *, readable: bool) -> None:
    answer = await failing(world, objects.service_key(2), readable=readable)

    assert list(answer.differences) == []
    assert list(answer.elsewhere) == ["Service ns/svc-2 is not in the kernel as it should be"]


@pytest.mark.parametrize("readable", [True, False])
async def test_what_fails_of_this_service_is_a_difference(world: World, *, readable: bool) -> None:
    answer = await failing(world, objects.service_key(1), readable=readable)

    assert list(answer.differences) == ["Service ns/svc-1 fails: no room"]
    assert list(answer.elsewhere) == []


async def test_what_is_pending_and_not_named_counts_where_the_kernel_cannot_be_read(world: World) -> None:
    answer = await explained_by(world, replace(world.agent.facts(), dataplane=Unreadable(pending=True)))

    assert list(answer.differences) == ["something wanted is not in the kernel yet, or is refused: it is tried again"]


async def test_what_is_pending_is_elsewhere_where_the_kernel_was_compared(world: World) -> None:
    answer = await explained_by(world, replace(world.agent.facts(), in_step=False))

    assert list(answer.differences) == []
    assert list(answer.elsewhere) == ["something wanted is not in the kernel yet, or is refused: it is tried again"]


async def test_the_agent_says_which_replica_it_tries_and_the_last_error(world: World) -> None:
    link = Link(("a:1", "b:1"))
    link.tries("b:1")
    link.ended("nothing heard for 30 s")

    answer = agent_of(world.agent.facts(), link)

    assert (answer.server, list(answer.servers), answer.last_error) == ("b:1", ["a:1", "b:1"], "nothing heard for 30 s")
    assert answer.last_error_unix_nano >= answer.since_unix_nano > 0


async def test_the_socket_is_for_its_user_alone_and_one_that_cannot_be_bound_is_an_error(
    world: World, tmp_path: Path
) -> None:
    assert (tmp_path / "agent.sock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(AgentError, match=r"--inspect-socket=unix:///nowhere/a.sock: cannot bind"):
        await serve("unix:///nowhere/a.sock", world.inspection())


async def test_the_socket_of_another_agent_is_not_taken_away(world: World, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="another program listens there"):
        await serve(f"unix://{tmp_path / 'agent.sock'}", world.inspection())
    assert (await world.explained("10.96.0.1")).explanation.service.name == "svc-1"


async def test_a_pod_of_this_node_is_told_by_the_nodes_cidrs(world: World) -> None:
    answer = await world.explained("10.96.0.1")
    client = next(each for each in answer.explanation.decisions if each.what == "client")
    assert client.found == "a pod of this node"
    assert ObjectKey(Kind.SERVICE, "ns", "svc-1").name == answer.explanation.service.name
