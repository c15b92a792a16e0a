"""What ends a hold of the safety brake (S7), what it costs while it lasts, and for how much a release is good."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

import pytest

from controlplane.facts import Fact
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream import brake, state_folder
from nodeagent.stream.snapshot_assembler import SnapshotAssembler
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica

MANY = range(1, 21)
KEYS = {n: objects.service_key(n) for n in MANY}


@pytest.fixture
def link() -> Link:
    """Twenty Services at the replica and at the node."""
    made = Link(Replica([objects.service(n) for n in MANY]), Node())
    made.settle(15)
    assert services(made) == len(MANY)
    return made


def services(link: Link) -> int:
    """In the node's kernel."""
    assert len(link.node.kernel) == len(link.node.agent.mirror.services)
    return len(link.node.kernel)


def vanish(link: Link, numbers: Iterable[int] = MANY) -> None:
    """By absence."""
    link.replica.put(*(Fact(KEYS[n], None) for n in numbers), now=link.now)


def come_back(link: Link) -> None:
    link.replica.put(*(Fact(KEYS[n], objects.service(n)) for n in MANY), now=link.now)


def snapshots_during(link: Link, seconds: int) -> int:
    began = 0
    real = SnapshotAssembler.__init__

    def counted(self: SnapshotAssembler, begin: pb.SnapshotBegin, raw: bytes) -> None:
        nonlocal began
        began += 1
        real(self, begin, raw)

    with patch.object(SnapshotAssembler, "__init__", counted):
        link.settle(seconds)
    return began


def test_a_hold_asks_for_the_state_at_a_slow_pace(link: Link) -> None:
    vanish(link)
    link.step()
    assert snapshots_during(link, 3600) <= 3600 / brake.ASKING.last + 5
    assert services(link) == len(MANY)


def test_changes_that_go_on_during_a_hold_cost_no_snapshots(link: Link) -> None:
    vanish(link, range(3, 21))
    link.step()

    def busy() -> None:
        for version in range(1, 31):
            link.replica.put(Fact(KEYS[1], objects.service(1, version)), now=link.now)
            link.step(1.0)

    with patch.object(link, "settle", lambda _: busy()):
        assert snapshots_during(link, 30) == 0


def test_a_delta_that_brings_the_services_back_ends_the_hold_at_once(link: Link) -> None:
    vanish(link)
    link.settle(15)
    come_back(link)
    link.settle(15)
    link.assert_same()
    assert not link.node.agent.brake.holds


def test_a_replica_with_the_same_state_ends_the_hold(link: Link) -> None:
    same = Replica([objects.service(n) for n in MANY])
    vanish(link)
    link.settle(15)
    link = Link(same, link.node)
    link.settle(15)
    link.assert_same()
    assert not link.node.agent.brake.holds


def test_a_release_without_a_stream_is_used_up_by_the_change_it_lets_in(link: Link) -> None:
    """It comes as a delta then; a release that stayed would let the next loss of all Services in as well."""
    vanish(link)
    link.settle(15)
    link.cut()
    link.node.agent.release(link.now)
    link.settle(15)
    assert services(link) == 0
    assert not link.node.agent.brake.released
    come_back(link)
    link.settle(15)
    vanish(link)
    link.settle(15)
    assert services(link) == len(MANY)


def test_a_release_is_used_up_where_the_services_came_back_before_it_was_read(link: Link) -> None:
    vanish(link)
    link.settle(15)
    link.cut()
    link.node.agent.release(link.now)
    come_back(link)
    link.settle(15)
    vanish(link)
    link.settle(15)
    assert services(link) == len(MANY)


def test_a_release_of_another_hold_does_nothing(link: Link) -> None:
    vanish(link)
    link.settle(15)
    stale = pb.WatchResponse(brake_release=pb.BrakeRelease(since_unix_nano=7)).SerializeToString()
    assert link.node.take(stale, link.now) == []
    assert not link.node.agent.brake.released


def test_a_file_of_before_the_hold_releases_nothing_and_is_taken_away(tmp_path: Path) -> None:
    file, now = tmp_path / "release-brake", time.time_ns()
    file.touch()
    os.utime(file, ns=(now, now - 60 * 10**9))
    assert not state_folder.taken(file, now)
    assert not file.exists()
    file.touch()
    assert state_folder.taken(file, now)
    assert not state_folder.taken(file, now)
