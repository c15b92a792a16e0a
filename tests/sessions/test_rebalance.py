"""Replicas come and go, and agents are spread over them without a leader: seldom, slowly, and each at most once."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from msgspec import Struct

from controlplane import rebalance
from controlplane.leaving import send_home
from controlplane.nodes import Nodes
from controlplane.peers import Peers, Plain
from controlplane.reached import Reached
from controlplane.rebalance import RATE, SETTLED, SUSTAINED, Rebalance, home, limit
from controlplane.replica_places import Alone
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica


class Held(Struct, eq=False):
    """One agent's stream."""

    node_name: str
    since: float


class Fleet:
    """Agents and replicas on one clock. An agent that is sent away has its next stream at once, where it was sent."""

    def __init__(self, agents: int, replicas: int) -> None:
        self.now = 0.0
        self.agents, self.chance = agents, random.Random(3)
        self.moves: dict[str, list[float]] = {f"n{number}": [] for number in range(agents)}
        self.forced: Counter[str] = Counter()
        self.streams: dict[str, dict[str, Held]] = {}
        self.deciding: dict[str, Rebalance] = {}
        self.scale(replicas)
        for name in self.moves:
            self.open(name, self.chance.choice(list(self.streams)))

    def scale(self, replicas: int) -> None:
        """Replicas start; or the newest stop, and their agents go wherever they like."""
        names = [f"192.0.2.{number}:1" for number in range(1, replicas + 1)]
        left = [name for place in set(self.streams) - set(names) for name in self.streams[place]]
        self.streams = {name: self.streams.get(name, {}) for name in names}
        self.deciding = {name: self.deciding.get(name) or Rebalance(name) for name in names}
        for name in left:
            self.forced[name] += 1
            self.open(name, self.chance.choice(names))

    def open(self, name: str, where: str) -> None:
        self.streams[where][name] = Held(name, self.now)

    def second(self) -> None:
        self.now += 1.0
        sent = []
        for place, mine in self.streams.items():
            chosen = self.deciding[place].look(self.now, mine.values(), self.agents, self.streams)
            assert len(chosen) <= max(1, RATE * len(mine)) + 1
            sent += [(place, stream, there) for stream, there in chosen]
        for place, stream, there in sent:
            assert self.now - stream.since >= SETTLED
            del self.streams[place][stream.node_name]
            self.moves[stream.node_name].append(self.now)
            self.open(stream.node_name, there)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second()
            assert sum(map(len, self.streams.values())) == self.agents

    @property
    def most(self) -> int:
        return max(map(len, self.streams.values()))


def test_fault_25_from_three_replicas_to_six_to_two_no_agent_moves_twice_in_five_minutes() -> None:
    fleet = Fleet(3000, 3)
    fleet.run(400)
    assert not any(fleet.moves.values()), "as long as they are spread, nobody moves"

    fleet.scale(6)
    fleet.run(59)
    assert not any(fleet.moves.values())
    fleet.run(300)
    assert fleet.most <= limit(3000, 6)
    assert max(map(len, fleet.moves.values())) == 1

    fleet.scale(2)
    fleet.run(400)

    assert fleet.most <= limit(3000, 2)
    for times in fleet.moves.values():
        assert all(later - earlier >= SETTLED for earlier, later in pairwise(times))
    assert max(fleet.forced.values()) == 1


def test_a_replica_that_everybody_fled_to_keeps_them_for_five_minutes_and_then_sends_them_home() -> None:
    fleet = Fleet(1200, 1)
    fleet.scale(3)
    fleet.run(int(SETTLED) - 1)
    assert not any(fleet.moves.values())
    fleet.run(400)

    assert fleet.most <= limit(1200, 3)
    assert all(home(name, fleet.streams) in fleet.streams for name in fleet.moves)
    moved = [name for name, times in fleet.moves.items() if times]
    assert all(name in fleet.streams[home(name, fleet.streams)] for name in moved)


def many(number: int) -> list[Held]:
    return [Held(f"n{each}", -1000.0) for each in range(number)]


@pytest.mark.parametrize(
    ("replicas", "why"),
    [(["b:1", "c:1"], "it does not know itself"), (["a:1"], "there is no other"), ([], "nothing is known")],
)
def test_nobody_is_sent_away(replicas: list[str], why: str) -> None:
    deciding = Rebalance("a:1")
    assert [deciding.look(float(now), many(500), 0, replicas) for now in range(200)] == [[]] * 200, why


def test_a_set_of_replicas_that_changes_begins_the_time_anew() -> None:
    deciding = Rebalance("a:1")
    sets = [["a:1", "b:1"], ["a:1", "b:1", "c:1"]]
    for now in range(600):
        assert deciding.look(float(now), many(500), 0, sets[now // 50 % 2]) == []


def test_a_peak_that_is_over_within_a_minute_is_none() -> None:
    deciding = Rebalance("a:1")
    for now in range(600):
        number = 50 if now % int(SUSTAINED - 1) == 0 else 500
        assert deciding.look(float(now), many(number), 0, ["a:1", "b:1"]) == []


def test_a_look_that_comes_late_sends_away_no_more_than_that_of_a_second() -> None:
    deciding = Rebalance("a:1")
    for now in (0.0, 60.0, 61.0):
        deciding.look(now, many(1000), 0, ["a:1", "b:1"])

    assert len(deciding.look(400.0, many(1000), 0, ["a:1", "b:1"])) == RATE * 1000


def test_homes_are_even_and_only_those_of_a_replica_that_goes_change() -> None:
    names = [f"192.0.2.{number}:1" for number in range(6)]
    before = {f"n{node}": home(f"n{node}", names) for node in range(6000)}
    after = {node: home(node, names[:-1]) for node in before}

    assert all(800 < number < 1200 for number in Counter(before.values()).values())
    assert {before[node] for node in before if before[node] != after[node]} == {names[-1]}


# ------------------------------------------------------------ real sessions


def test_an_agent_that_is_sent_home_is_told_once_and_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebalance, "SPARE", 0)
    nodes, replica, told = Nodes(), Replica([objects.service(1)]), Counter[str]()
    peers, deciding = Reached(Peers(Alone(), Plain(), "me"), "192.0.2.1:1"), Rebalance("192.0.2.1:1")
    peers.reached = frozenset({"192.0.2.1:1", "192.0.2.2:1"})
    streams = {}
    for number in range(40):
        stream = replica.stream()
        hello = pb.Hello(node_name=f"n{number}", protocol_min=1, protocol_max=1)
        stream.on_message(pb.WatchRequest(hello=hello), 0.0)
        nodes.claim(stream)
        streams[stream.node_name] = stream
    for now in range(500):
        send_home(deciding, peers, nodes, 8, float(now))
        for name, stream in streams.items():
            while (data := stream.next_message(float(now))) is not None:
                message = pb.WatchResponse.FromString(data)
                if message.HasField("go_away"):
                    told[name] += 1
                    assert list(message.go_away.targets) == [home(name, peers.reached)] == ["192.0.2.2:1"]
                    assert message.go_away.retry_after_ms == 0

    assert set(told.values()) == {1}
    assert nodes.sent_home == len(told)
    assert len(told) >= sum(home(name, peers.reached) != peers.me for name in streams) - 1


def test_an_agent_that_is_sent_elsewhere_resumes_there_and_its_kernel_never_lacks_anything() -> None:
    things = [objects.service(number) for number in range(50)]
    here, there = Link(Replica(things), Node()), Replica(things)
    here.connect()
    here.settle(3)
    kernel = dict(here.node.kernel)
    assert here.stream is not None
    here.stream.go_away("more than its share", targets=["192.0.2.2:1"])
    here.pull()
    here.deliver_down()

    assert here.node.agent.lost(here.now) == "the replica asked to go: more than its share"
    assert here.node.agent.redirect() == (0.0, ("192.0.2.2:1",))
    changes = len(here.node.changes)
    here.replica = there
    here.connect()
    here.step(0.1)
    assert (here.node.kernel, len(here.node.changes)) == (kernel, changes)
    here.settle(2)
    here.assert_same()
