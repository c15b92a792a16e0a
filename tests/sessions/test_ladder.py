"""What an agent is sent when it comes back: a merged delta, nothing, the buckets that differ, or all. Counted."""

from __future__ import annotations

from random import Random

import pytest

from controlplane.facts import Fact
from deltaplane.model import Object
from deltaplane.snapshot import PARTIAL
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica

SERVICES = 200
AWAY, RATE = 30, 100  # seconds, changes per second


class Counted(Link):
    """Counts what the replica sends since `came_back`."""

    def __init__(self, replica: Replica, node: Node) -> None:
        super().__init__(replica, node)
        self.kinds: list[str] = []
        self.bytes = 0

    def deliver_down(self) -> None:
        if self.down:
            kind = pb.WatchResponse.FromString(self.down[0]).WhichOneof("message") or ""
            if kind not in {"welcome", "heartbeat", "digest_request"}:
                self.kinds.append(kind)
                self.bytes += len(self.down[0])
        super().deliver_down()

    def came_back(self) -> None:
        self.kinds.clear()
        self.bytes = 0
        self.connect()
        for _ in range(3):
            self.step(0.5)


def truth() -> list[Object]:
    numbers = range(SERVICES)
    return [*map(objects.service, numbers), *(objects.slice_of(n, {1: 3, 2: 3, 3: 3}) for n in numbers)]


def link(max_bytes: float = 1 << 26, node: Node | None = None) -> Counted:
    made = Counted(Replica(truth(), max_bytes=max_bytes), node or Node())
    made.connect()
    made.settle(5)
    made.cut()
    return made


def change(replica: Replica, number: int, among: int = SERVICES) -> None:
    """Single endpoints of `among` Services come and go, a revision for each."""
    random = Random(1)
    for now in range(number):
        ends = dict.fromkeys(range(1, 4 + random.randrange(6)), 3)
        service = random.randrange(among)
        fact = Fact(objects.slice_key(service), objects.slice_of(service, ends))
        replica.put(fact, now=now / RATE)


def test_what_the_log_has_comes_as_a_merged_delta() -> None:
    away = link()
    change(away.replica, AWAY * RATE)

    away.came_back()

    assert set(away.kinds) == {"delta"}
    assert len(away.kinds) <= 8, "few: up to revisions at which other streams stop as well, in parts of a limited size"
    assert away.bytes < away.replica.log.size / 2, "one change per object and not per revision"
    away.assert_same()


def test_equal_states_of_another_replica_need_nothing() -> None:
    away = link()
    away.replica = Replica(truth())

    away.came_back()

    assert (away.kinds, away.bytes) == ([], 0)
    away.assert_same()


def test_beyond_the_log_only_the_leaves_that_differ_are_sent() -> None:
    away, whole = link(max_bytes=1000), link(max_bytes=1000)
    for one in (away, whole):
        change(one.replica, AWAY * RATE, among=10)
    whole.node = Node()

    away.came_back()
    whole.came_back()

    assert away.kinds[0] == "snapshot_begin"
    assert away.bytes < whole.bytes / 5
    away.assert_same()


def test_where_most_buckets_differ_all_is_sent_to_an_agent_of_before() -> None:
    away = link(max_bytes=1000, node=Node(capabilities=[PARTIAL]))
    for number in range(SERVICES):
        away.replica.put(Fact(objects.slice_key(number), objects.slice_of(number, {9: 3})))

    away.came_back()

    assert away.kinds == ["snapshot_begin", "snapshot_chunk", "snapshot_end"]
    away.assert_same()


@pytest.mark.parametrize("behind", [True, False])
def test_an_agent_never_shows_an_older_state_after_a_failover(behind: bool) -> None:
    away = link()
    away.replica.put(Fact(objects.service_key(1), objects.service(1, 2), "12"))
    away.connect()
    away.settle(3)
    newest = dict(away.node.kernel)
    late = Replica(truth())
    late.put(Fact(objects.service_key(2), objects.service(2), "10" if behind else "12"))
    away.replica = late
    away.connect()
    for _ in range(4):
        away.step(1.0)
        if behind:
            assert away.node.kernel == newest
    late.put(Fact(objects.service_key(1), objects.service(1, 2), "12"))
    away.settle(3)

    away.assert_same()
    assert late.nodes.held == ({"caught up": 1} if behind else {})
