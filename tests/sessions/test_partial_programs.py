"""A partial snapshot in the kernel, on the metrics pages, and for the operator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controlplane.facts import Fact
from controlplane.inspection.here import node_status
from controlplane.session import Session
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.agent import Agent
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.outcome import Commit
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.handshake import Mode
from tests.fakes.nftables.memory import MemoryKernel
from tests.sessions import objects
from tests.sessions.link import Replica

MANY = range(1, 101)


class World:
    """An agent with a kernel in memory, and its replica. `commits`: what each wrote."""

    def __init__(self) -> None:
        self.replica, self.dataplane = Replica(), NftablesDataplane(MemoryKernel())
        self.dataplane.start()
        self.commits: list[tuple[int, Commit]] = []
        apply = self.dataplane.apply

        def counted(services, node=None, *, complete=False):  # type: ignore[no-untyped-def]
            done = apply(services, node, complete=complete)
            self.commits.append((len(services), done))
            return done

        self.dataplane.apply = counted  # type: ignore[method-assign]
        self.agent = Agent(NodeInfo("n1"), self.dataplane, mode=Mode("nftables"))
        for n in MANY:
            slice_ = objects.slice_of(n, {1: objects.READY, 2: objects.READY})
            self.replica.put(Fact(objects.service_key(n), objects.service(n)), Fact(slice_.key, slice_))
        self.stream: Session
        self.connect()

    def connect(self) -> None:
        self.agent.disconnected(0.0)
        self.stream = self.replica.stream()
        self.say([self.agent.connected(0.0)], 0.0)

    def say(self, messages: list[bytes], now: float) -> None:
        for message in messages:
            self.stream.on_message(pb.WatchRequest.FromString(message), now)

    def step(self, now: float) -> None:
        self.say(list(self.agent.tick(now)), now)
        while (message := self.stream.next_message(now)) is not None:
            self.say(list(self.agent.received(message, now)), now)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.step(0.0)
    made.step(1.0)
    made.commits.clear()
    yield made
    made.agent.close()


def test_only_the_services_that_differ_are_resolved_and_written(world: World) -> None:
    slice_ = objects.slice_of(7, {1: objects.READY, 3: objects.READY})
    world.replica.put(Fact(slice_.key, slice_))
    world.replica.put(Fact(objects.service_key(9), None), Fact(objects.slice_key(9), None))
    world.replica.log.expire(1e9)
    world.connect()

    world.step(2.0)

    ((services, done),) = [each for each in world.commits if each[0]]
    assert services == 2
    assert 0 < done.elements < 40
    assert world.agent.mirror.digest.value == world.replica.store.digest.value


def test_the_kernel_is_as_if_the_whole_state_had_come(world: World) -> None:
    slice_ = objects.slice_of(7, {1: objects.READY, 3: objects.READY})
    world.replica.put(Fact(slice_.key, slice_), Fact(objects.service_key(9), None))
    world.replica.log.expire(1e9)
    world.connect()
    world.step(2.0)
    world.commits.clear()

    world.agent._programmer.doubt()  # the next message leads to a comparison of everything
    world.step(20.0)

    (whole,) = [done for services, done in world.commits if services > 50]
    assert whole.elements == 0


def test_list_nodes_says_how_a_state_was_brought_up(world: World) -> None:
    world.replica.put(Fact(objects.service_key(7), objects.service(7, 1)))
    world.replica.log.expire(1e9)
    world.connect()
    world.step(2.0)

    assert node_status(world.stream, 2.0).brought_up == "CONNECTED: partial, 1 of 4096 leaves"
