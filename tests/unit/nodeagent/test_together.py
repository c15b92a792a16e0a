"""Messages that the agent takes together: deltas in a row are one commit, whatever the driver; the rest is as ever."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest
from msgspec.structs import replace

from bench import cluster
from bench.cluster import Replica
from controlplane.facts import Fact
from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.agent import Agent
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.outcome import Commit
from nodeagent.dataplane.reconciler import Reconciler
from nodeagent.linux.iptables.programs import Refusal
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.events import portions
from tests.fakes.driver import MemoryDriver
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.nftables.memory import MemoryKernel
from tests.soak.objects import HERE
from tests.soak.world import World
from tests.unit.nodeagent.test_agent import GONE, OWN, STAYS, served

SERVICES, DELTAS = 20, 50


class Counting(MemoryIptables):
    """Counts the restores of each family."""

    def __init__(self) -> None:
        super().__init__()
        self.restored: list[int] = []

    def restore(self, family: int, text: str) -> Refusal | None:
        self.restored.append(family)
        return super().restore(family, text)


class Applies(Reconciler[int]):
    """A dataplane of any driver that notes how many Services each apply is about."""

    slow = True

    def __init__(self) -> None:
        super().__init__(MemoryDriver())
        self.applied: list[int] = []

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        self.applied.append(len(services))
        return super().apply(services, node, complete=complete)


def loaded(dataplane: Applies | IptablesDataplane | NftablesDataplane) -> tuple[Agent, Replica]:
    """An agent that has a whole state in its kernel."""
    dataplane.start()
    agent, replica = Agent(NodeInfo(cluster.NODE), dataplane), Replica(SERVICES, 3)
    agent.connected(0.0)
    for message in replica.beginning():
        agent.received(message, time.monotonic())
    assert agent.complete
    return agent, replica


def acks(answers: Sequence[bytes]) -> list[pb.Ack]:
    return [pb.WatchRequest.FromString(data).ack for data in answers]


def test_deltas_that_came_while_a_commit_ran_are_one_restore_of_the_family_they_are_about() -> None:
    kernel = Counting()
    agent, replica = loaded(IptablesDataplane(kernel))
    kernel.restored.clear()

    agent.received_all([replica.change() for _ in range(DELTAS)], time.monotonic())

    assert kernel.restored == [4]
    alone = Counting()
    other, same = loaded(IptablesDataplane(alone))
    for _ in range(DELTAS):
        other.received(same.change(), time.monotonic())
    assert len(alone.restored) > DELTAS
    for table in ("nat", "filter"):
        assert sorted(kernel.save(4, table).splitlines()) == sorted(alone.save(4, table).splitlines())


def test_they_are_one_commit_with_any_driver_and_acknowledged_together() -> None:
    dataplane = Applies()
    agent, replica = loaded(dataplane)
    dataplane.applied.clear()
    before = agent.facts().rev

    answers = agent.received_all([replica.change() for _ in range(DELTAS)], time.monotonic())

    (services,) = dataplane.applied
    assert 1 < services <= SERVICES
    (ack,) = acks(answers)  # so many fill half of the window, which makes it urgent
    assert ack.applied_rev == ack.received_rev == before + DELTAS
    (report,) = ack.commits
    assert report.to_rev == before + DELTAS


def test_a_message_that_is_no_delta_is_taken_by_itself() -> None:
    dataplane = Applies()
    agent, replica = loaded(dataplane)
    dataplane.applied.clear()
    beat = pb.WatchResponse(heartbeat=pb.Heartbeat(head_rev=1)).SerializeToString()
    first, second, third = (replica.change() for _ in range(3))

    answers = agent.received_all([first, second, beat, third], time.monotonic())

    assert len(dataplane.applied) == 2
    assert acks(answers)[0].applied_rev == agent.facts().rev - 1  # the heartbeat's: of what the kernel had by then


def test_deltas_are_told_from_all_other_messages() -> None:
    messages = {
        field.name: pb.WatchResponse(**{field.name: getattr(pb.WatchResponse(), field.name)}).SerializeToString()
        for field in pb.WatchResponse.DESCRIPTOR.fields
    }
    delta = messages.pop("delta")
    for other in messages.values():
        assert list(portions([delta, delta, other, other, delta])) == [(delta, delta), (other,), (other,), (delta,)]


def test_after_a_commit_of_a_slow_driver_changes_gather() -> None:
    dataplane = Applies()
    agent, replica = loaded(dataplane)
    assert agent.rest(time.monotonic()) == 0.0  # a whole state is no change

    agent.received(replica.change(), time.monotonic())

    assert agent.rest(0.0) > time.monotonic()
    assert agent.rest(time.monotonic() + 60.0) == 0.0


def test_a_driver_that_is_not_slow_never_rests() -> None:
    agent, replica = loaded(NftablesDataplane(MemoryKernel()))
    agent.received(replica.change(), time.monotonic())
    assert agent.rest(0.0) == 0.0


@pytest.fixture
def world() -> Iterator[World]:
    with served() as made:
        yield made


def deltas(world: World, *facts: Fact) -> list[bytes]:
    """One for each, which are sent and not delivered."""
    for fact in facts:
        world.put(fact)
        world.pull()
    sent = list(world.down)
    world.down.clear()
    assert len(sent) == len(facts)
    return sent


def test_a_service_that_goes_and_comes_back_among_them_is_as_it_came_back(world: World) -> None:
    world.agent.received_all(
        deltas(world, Fact(GONE.key, None), Fact(STAYS.key, None), Fact(GONE.key, GONE)), world.clock.now
    )
    world.settle()
    assert world.differences() == []


def test_the_journal_has_every_delta_also_where_it_begins_anew_among_them(world: World) -> None:
    """A journal that is full begins with the state of the delta that filled it; those after it must fit."""
    world.journal.messages = world.journal.messages[:1] * 59 + world.journal.messages[-1:]
    world.agent.received_all(deltas(world, *(Fact(GONE.key, each) for each in (None, GONE, None))), world.clock.now)
    world.settle()
    world.put(Fact(STAYS.key, None))
    world.settle()
    rev = world.agent.facts().rev
    assert rev == world.replica.log.head

    world.restart_agent()
    assert world.agent.facts().rev == rev
    assert not world.agent.mirror.services


def test_a_change_of_this_node_among_them_reaches_every_service(world: World) -> None:
    sent = deltas(world, Fact(GONE.key, None), Fact(OWN.key, replace(OWN, zone="b")), Fact(GONE.key, GONE))
    world.agent.received_all(sent, world.clock.now)
    world.settle()
    assert world.agent.mirror.nodes[HERE].zone == "b"
    assert world.differences() == []
