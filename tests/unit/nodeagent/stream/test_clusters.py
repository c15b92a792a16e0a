"""An agent that holds the state of one cluster takes none of another, in one life and over restarts (S12)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.facts import Fact
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.metrics.registry import Metrics
from nodeagent.stream.events import Record
from nodeagent.stream.journal import Journal
from nodeagent.stream.session import Session as AgentSession
from tests.fakes.nftables.memory import MemoryKernel
from tests.soak.world import World, ticking
from tests.unit.nodeagent.test_recovery import OWN, WEB, Disk, slice_of


class Clusters(Disk):
    """`cluster` is what the replica says it serves."""

    cluster = "one"

    def connect(self) -> None:
        self.replica.cluster = self.cluster
        super().connect()

    @property
    def session(self) -> AgentSession:
        return self.agent._session

    def kept(self) -> str:
        return Journal(self.folder).replay().owner.cluster

    def refused(self) -> str:
        """Why the stream that begins now is given up, after everything that it had to say."""
        self.replica.cluster = self.cluster
        World.connect(self)
        assert self.stream is not None
        for _ in range(50):
            self.deliver_up()
            self.pull()
            self.deliver_down()
        return self.agent.lost(self.clock.now) or ""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clusters]:
    monkeypatch.setattr(Clusters, "folder", tmp_path / "state")
    kernel = MemoryKernel()
    made = Clusters(lambda: kernel, kernel.tables.clear)
    with ticking(made):
        made.put(Fact(OWN.key, OWN), Fact(WEB.key, WEB))
        made.ends(1)
        yield made
        made.agent.close()


def test_the_journal_says_which_cluster_it_is_of(world: Clusters) -> None:
    assert world.session.cluster == world.kept() == "one"


@pytest.mark.parametrize("restarted", [False, True])
def test_another_cluster_is_refused_before_anything_moves(world: Clusters, restarted: bool) -> None:
    if restarted:
        world.reboot()
    before = world.agent.mirror.digest.value
    world.restart_control_plane()
    world.put(Fact(slice_of(9).key, slice_of(9)), Fact(WEB.key, None))
    world.cluster = "two"
    counted = world.agent._metrics = Metrics()
    reason = world.refused()
    assert "serves cluster two" in reason
    assert "has the state of cluster one" in reason
    assert "--server" in reason
    assert world.agent.mirror.digest.value == before
    assert world.kept() == "one"
    assert counted.registry.get_sample_value("deltaplane_stream_reports_total", {"code": "ANOTHER_CLUSTER"}) == 1


@pytest.mark.parametrize("empty", ["replica", "journal"])
def test_what_is_not_known_is_accepted(world: Clusters, empty: str) -> None:
    if empty == "replica":
        world.cluster = ""
    else:
        world.session.cluster = ""
    world.restart_control_plane()
    world.ends(2)
    assert world.served()
    assert world.session.cluster == world.kept() == "one"


def test_a_replica_that_learns_it_later_is_remembered_without_a_snapshot(world: Clusters) -> None:
    world.journal.keep(Record(tuple(world.on_disk()), whole=True))
    world.session.cluster = ""
    assert world.kept() == ""
    world.connect()
    world.ends(3)
    assert world.kept() == "one"


@pytest.mark.parametrize("wrong", ["a b", "x" * 129, "\x1b[2J"])
def test_a_cluster_id_that_is_none_is_refused(world: Clusters, wrong: str) -> None:
    world.cluster = wrong
    assert "which is none" in world.refused()


def test_a_replica_says_which_cluster_it_serves(world: Clusters) -> None:
    world.replica.cluster = "one"
    stream = world.replica.stream()
    stream.on_message(pb.WatchRequest.FromString(world.agent.connected(world.clock.now)), world.clock.now)
    message = stream.next_message(world.clock.now)
    assert message is not None
    assert pb.WatchResponse.FromString(message).welcome.cluster_id == "one"
