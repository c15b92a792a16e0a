"""A replica leaves its agents to others only while it does not follow its source and another does: seldom, and told."""

from __future__ import annotations

from itertools import pairwise

import pytest

from controlplane.aside import AFTER, ALONE, BACK, RECOVERED, Aside
from controlplane.leaving import EACH_SECONDS, UNFOLLOWED, send_on
from controlplane.nodes import Nodes
from controlplane.rebalance import home
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Replica

LOST, OTHERS = "nodes (refused)", ("b:1", "c:1")


@pytest.mark.parametrize(
    ("unfollowed", "better", "seconds", "aside"),
    [
        ("", OTHERS, 600, False),
        ("", (), 600, False),
        (LOST, OTHERS, AFTER - 1, False),
        (LOST, OTHERS, AFTER, True),
        (LOST, OTHERS, 600, True),
        (LOST, (), 600, False),  # the API server is down for all: agents stay and keep the last state
    ],
)
def test_a_replica_takes_no_agents_while_it_alone_does_not_follow(
    unfollowed: str, better: tuple[str, ...], seconds: float, aside: bool
) -> None:
    looks = Aside()
    told = [looks.look(float(now), unfollowed, better) for now in range(int(seconds) + 1)]
    assert bool(looks.reason) == aside
    assert [each for each in told if each] == ([f"it does not follow {LOST}; other replicas do"] if aside else [])


def left() -> Aside:
    looks = Aside()
    for now in (0.0, AFTER):
        looks.look(now, LOST, OTHERS)
    assert looks.reason
    return looks


def test_it_takes_agents_again_when_it_has_followed_for_a_while_and_says_so_once() -> None:
    looks = left()
    told = [looks.look(AFTER + 1 + second, "", OTHERS) for second in range(int(BACK) * 2)]
    assert told == [None] * int(BACK) + [RECOVERED] + [None] * (int(BACK) - 1)
    assert not looks.reason


def test_it_takes_agents_again_at_once_when_no_other_is_better_off_any_more() -> None:
    looks = left()
    assert looks.look(AFTER + 1, LOST, ()) == ALONE
    assert not looks.reason
    assert looks.look(AFTER + 2, LOST, OTHERS) is None, "another that comes and goes takes nobody"


def test_a_source_that_fails_at_times_brings_one_change_and_no_more() -> None:
    looks = left()
    for second in range(600):
        assert looks.look(AFTER + second, LOST if second % int(BACK) == 0 else "", OTHERS) is None
    looks = Aside()
    for second in range(600):
        assert looks.look(float(second), "" if second % int(AFTER) == 0 else LOST, OTHERS) is None


def test_others_that_fail_at_times_bring_a_change_each_time_that_they_were_better_off_for_long() -> None:
    looks, changes, now = Aside(), [], 0.0
    while now < 600:
        better = OTHERS if now % 20 < 18 else ()
        if looks.look(now, LOST, better):
            changes.append(now)
        now += 1
    assert all(later - earlier >= 2 for earlier, later in pairwise(changes))
    assert all(later - earlier >= AFTER for earlier, later in pairwise(changes[::2]))


# ------------------------------------------------------------ real sessions


def test_all_agents_go_to_their_homes_among_the_others_each_told_once_as_fast_as_from_a_replica_that_stops() -> None:
    nodes, replica = Nodes(), Replica([objects.service(1)])
    streams = [replica.stream() for _ in range(250)]
    for number, stream in enumerate(streams):
        hello = pb.Hello(node_name=f"n{number}", protocol_min=1, protocol_max=1)
        stream.on_message(pb.WatchRequest(hello=hello), 0.0)
        nodes.claim(stream)
    sent = []
    for _ in range(4):
        send_on(nodes, OTHERS)
        sent.append(nodes.sent_on)

    assert sent == [int(1 / EACH_SECONDS), int(2 / EACH_SECONDS), 250, 250]
    for stream in streams:
        told = []
        while (data := stream.next_message(1.0)) is not None:
            told.append(pb.WatchResponse.FromString(data))
        (message,) = [each.go_away for each in told if each.HasField("go_away")]
        assert (message.reason, list(message.targets)) == (UNFOLLOWED, [home(stream.node_name, OTHERS)])
        assert stream.closed is None, "it leaves by itself, when it has another"
