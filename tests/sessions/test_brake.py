"""The agent's safety brake (S7): what removes most Services unannounced waits, in a delta and in a snapshot alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.facts import Fact
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica

MANY = range(1, 41)


@pytest.fixture
def link() -> Link:
    """An agent that has forty Services."""
    made = Link(Replica(), Node())
    made.replica.put(*(Fact(objects.service_key(n), objects.service(n)) for n in MANY))
    made.connect()
    made.step()
    made.step(1.0)
    assert len(services(made)) == 40
    return made


def services(link: Link) -> set[str]:
    return {name for _, name in link.node.agent.mirror.services}


def lose_all(link: Link, *, deleted: bool = False) -> None:
    link.replica.put(*(Fact(objects.service_key(n), None, deleted=deleted) for n in MANY), now=link.now)


def test_a_delta_that_loses_most_is_held_and_so_is_the_snapshot_that_follows(link: Link) -> None:
    lose_all(link)
    link.step(1.0)
    assert link.stream is not None
    held = link.stream.brake

    link.settle(120)  # whole states are asked for meanwhile

    assert held is not None
    assert (held.services_removed, held.services) == (40, 40)
    assert len(services(link)) == len(link.node.kernel) == 40
    assert link.node.agent.brake.holds


def test_what_was_deleted_by_name_goes_at_once(link: Link) -> None:
    lose_all(link, deleted=True)
    link.step(1.0)
    assert services(link) == set()
    assert not link.node.agent.brake.holds


def test_deletions_by_name_stay_announced_when_deltas_are_merged(link: Link) -> None:
    for n in MANY:
        link.replica.put(Fact(objects.service_key(n), None, deleted=True), now=link.now)
    link.step(1.0)
    assert services(link) == set()


def test_a_few_announced_ones_do_not_let_the_others_go(link: Link) -> None:
    facts = [Fact(objects.service_key(n), None, deleted=n <= 5) for n in MANY]
    link.replica.put(*facts, now=link.now)
    link.step(1.0)
    assert len(services(link)) == 40


def test_an_operator_releases_it_through_the_replica(link: Link) -> None:
    lose_all(link)
    link.step(1.0)
    assert link.stream is not None
    assert link.stream.release_brake()

    link.settle(40)

    assert services(link) == set()
    assert not link.node.agent.brake.holds
    assert link.stream is not None
    assert link.stream.brake is None
    assert not link.stream.release_brake()  # nothing is held any more


def test_a_release_lets_one_change_in_and_no_later_one(link: Link) -> None:
    lose_all(link)
    link.step(1.0)
    assert link.stream is not None
    link.stream.release_brake()
    link.settle(40)
    link.replica.put(*(Fact(objects.service_key(n), objects.service(n)) for n in MANY), now=link.now)
    link.settle(2)

    lose_all(link)
    link.settle(40)

    assert len(services(link)) == 40


def test_the_hold_ends_by_itself_when_the_services_are_back(link: Link) -> None:
    lose_all(link)
    link.step(1.0)
    back = objects.service(99)
    link.replica.put(
        *(Fact(objects.service_key(n), objects.service(n)) for n in MANY), Fact(back.key, back), now=link.now
    )

    link.settle(40)

    assert services(link) == {f"svc-{n}" for n in MANY} | {"svc-99"}
    assert not link.node.agent.brake.holds


def test_another_replica_that_lost_them_is_held_as_well(link: Link) -> None:
    link.cut()
    link.replica = Replica()
    link.connect()

    link.settle(60)

    assert len(services(link)) == 40
    assert link.stream is not None
    assert link.stream.brake is not None


def test_an_agent_that_starts_anew_still_holds_it(link: Link) -> None:
    lose_all(link)
    link.step(1.0)
    again = Link(link.replica, Node(link.node.journal, link.node.kernel))
    again.connect()

    again.settle(60)

    assert len(services(again)) == 40
    assert again.node.agent.brake.holds


def test_what_the_journal_has_of_a_released_change_is_taken_again(link: Link) -> None:
    lose_all(link)
    link.step(1.0)
    assert link.stream is not None
    link.stream.release_brake()
    link.settle(40)

    again = Node(link.node.journal, {})

    assert again.agent.mirror.services == {}
    assert not again.agent.brake.holds


def test_the_ack_of_a_hold_says_nothing_of_revisions(link: Link) -> None:
    lose_all(link)
    link.pull()
    (request,) = link.node.take(link.down.popleft(), link.now)
    ack = pb.WatchRequest.FromString(request).ack
    assert ack.brake.services_removed == 40
    assert (ack.received_rev, ack.applied_rev) == (0, 0)


def test_a_file_in_the_state_folder_releases_it_on_the_node(tmp_path: Path) -> None:
    from nodeagent.agent import Agent
    from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
    from nodeagent.node.node_info import NodeInfo
    from tests.fakes.nftables.memory import MemoryKernel

    dataplane, replica, asked = NftablesDataplane(MemoryKernel()), Replica(), tmp_path / "release-brake"
    dataplane.start()
    agent = Agent(NodeInfo("n1"), dataplane, release_file=asked)
    replica.put(*(Fact(objects.service_key(n), objects.service(n)) for n in MANY))
    stream = replica.stream()
    stream.on_message(pb.WatchRequest.FromString(agent.connected(0.0)), 0.0)

    def step(now: float) -> int:
        for answer in agent.tick(now):
            stream.on_message(pb.WatchRequest.FromString(answer), now)
        while (message := stream.next_message(now)) is not None:
            for answer in agent.received(message, now):
                stream.on_message(pb.WatchRequest.FromString(answer), now)
        return len(agent.mirror.services)

    assert step(0.0) == 40
    replica.put(*(Fact(objects.service_key(n), None) for n in MANY))
    assert step(1.0) == 40

    asked.touch()
    step(10.0)

    assert step(20.0) == 0
    assert not asked.exists()
    agent.close()
