"""An agent with a real journal: it keeps state again after trouble, and starts whatever the journal has in it."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from controlplane.facts import Fact
from deltaplane.codec import decode_ops
from deltaplane.model import Endpoint, EndpointPort, EndpointSlice, Node, Object, Service, ServicePort, ServiceType
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2 as ob
from nodeagent.agent import Agent
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.events import Record
from nodeagent.stream.journal import BACKOFF, STAMP_SECONDS, Journal
from nodeagent.stream.journal_file import BAD, FRESH, LOCK, NAME
from nodeagent.stream.keeper import TRIES
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.session import Session
from tests.fakes.nftables.memory import MemoryKernel
from tests.soak.objects import HERE
from tests.soak.world import World, ticking

OWN = Node(HERE, "uid", (bytes((192, 0, 2, 1)),), "a")
WEB = Service("ns", "web", ServiceType.CLUSTER_IP, (bytes((10, 96, 0, 1)),), (ServicePort("", 6, 80),))


def slice_of(last: int) -> EndpointSlice:
    endpoints = (Endpoint(bytes((10, 244, 1, last)), 3, HERE, "a", ("a",)),)
    return EndpointSlice("ns", "web-1", "web", 4, (EndpointPort("", 6, 8080),), endpoints)


class Disk(World):
    """A world whose journal is in a real folder; `start` is another life of the agent, with `node`'s name."""

    folder = Path()
    node = HERE
    wall: Callable[[], int] = time.time_ns

    def _start(self) -> None:
        self.said: list[str] = []
        self.journal = Journal(  # type: ignore[assignment]
            self.folder, self.node, report=self.said.append, wall=lambda: type(self).wall()
        )
        super()._start()

    def ends(self, last: int) -> None:
        """web has this one endpoint, and everybody knows."""
        self.put(Fact(slice_of(last).key, slice_of(last)))
        self.settle()

    def keeps(self) -> bool:
        return self.journal.kept

    def served(self) -> bool:
        return self.agent.complete

    def on_disk(self) -> list[bytes]:
        return Journal(self.folder).replay().messages


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    monkeypatch.setattr(Disk, "folder", tmp_path / "state")
    monkeypatch.setattr(Disk, "wall", time.time_ns)
    kernel = MemoryKernel()
    made = Disk(lambda: kernel, kernel.tables.clear)
    with ticking(made):
        objects: list[Object] = [OWN, WEB]
        made.put(*(Fact(item.key, item) for item in objects))
        made.ends(1)
        made.settle()
        yield made
        made.agent.close()


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> pytest.MonkeyPatch:
    """This call of the operating system fails from now on."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"nodeagent.stream.state_folder.os.{name}", fail)
    return monkeypatch


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_state_is_kept_again_when_writing_works_again_without_a_snapshot(
    world: Disk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, "write", number)
        world.ends(2)
        assert not world.keeps()
        world.tick(BACKOFF.last)
        world.tick(BACKOFF.last)
        assert not (world.folder / FRESH).exists()
    world.ends(3)
    world.step(2 * BACKOFF.last)
    assert world.keeps()
    assert ["cannot keep state" in world.said[0], "kept again" in world.said[1]] == [True, True]
    mirror = Mirror()
    assert Session(pb.Hello(), mirror).restore(world.on_disk(), 0.0) is not None
    assert mirror.digest.value == world.agent.mirror.digest.value


def test_tries_are_paced(world: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "write", errno.ENOSPC)
    world.ends(2)
    before = world.journal.failures
    for _ in range(1200):
        world.tick(1.0)
    assert 5 <= world.journal.failures - before <= 9


def test_a_journal_that_was_removed_is_written_again(world: Disk) -> None:
    (world.folder / NAME).unlink()
    world.step(30.0)
    world.step(30.0)
    assert world.on_disk()


def test_a_state_that_does_not_change_says_now_and_then_that_it_is_still_true(
    world: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time_ns() + int(2 * STAMP_SECONDS * 1e9)
    size = (world.folder / NAME).stat().st_size
    monkeypatch.setattr(Disk, "wall", lambda: later)
    for _ in range(60):
        world.step(1.0)
    assert 0 < (world.folder / NAME).stat().st_size - size < 100
    found = Journal(world.folder).replay()
    assert found.written == later


def test_after_the_clock_was_put_back_a_day_a_state_that_is_still_true_says_so_at_once(
    world: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr(Disk, "wall", lambda: earlier)
    size = (world.folder / NAME).stat().st_size
    for _ in range(60):
        world.step(1.0)
    assert 0 < (world.folder / NAME).stat().st_size - size < 100
    found = Journal(world.folder, wall=lambda: earlier).replay()
    assert found.written == earlier


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, in a mount namespace of this process's child alone."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs -o size=256k,mode=700 none {folder} && echo up && cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    if holder.stdout.readline() != b"up\n":
        pytest.skip("no file system may be mounted here")
    yield Path(f"/proc/{holder.pid}/root{folder}")
    holder.communicate()


def test_after_a_full_disk_the_newest_state_survives_a_reboot(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Disk, "folder", small_disk)
    kernel = MemoryKernel()
    world = Disk(lambda: kernel, kernel.tables.clear)
    with ticking(world):
        world.put(Fact(OWN.key, OWN), Fact(WEB.key, WEB))
        world.ends(1)
        filler = os.open(small_disk / "filler", os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(filler, bytes(512)):
                pass
        for last in range(2, 60):
            world.ends(last)
        world.tick(BACKOFF.last)
        assert not world.keeps()
        assert not (small_disk / FRESH).exists()
        os.truncate(filler, 0)
        for last in range(60, 90):
            world.ends(last)
        world.step(2 * BACKOFF.last)
        assert world.keeps()
        world.reboot()
        assert world.served()
        assert world.agent.mirror.slices_of("ns", "web")[0].endpoints[0].address == bytes((10, 244, 1, 89))
        world.agent.close()
    os.close(filler)


# ---------------------------------------------------------------- what is in the file


def test_another_nodes_journal_is_set_aside(world: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "node", "other")
    world.agent.close()
    journal = Journal(world.folder, "other", report=world.said.append)
    agent = Agent(NodeInfo("other"), world.dataplane, journal)
    agent.recover()
    assert not agent.mirror.services
    assert "state of node" in world.said[-1]
    assert (world.folder / BAD).exists()
    journal.close()


@pytest.mark.parametrize("hours", [25, -1, 400_000])
def test_an_old_state_is_not_programmed_by_itself_but_resumed(
    world: Disk, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    now = time.time_ns()
    monkeypatch.setattr(Disk, "wall", lambda: now + hours * 3600 * 10**9)
    world.reboot()
    assert not world.served()
    assert world.agent.mirror.services
    resyncs = world.replica.snapshots
    world.connect()
    world.settle()
    assert world.served()
    assert world.differences() == []
    assert world.replica.snapshots is resyncs


def test_a_fresh_state_is_programmed_after_a_reboot(world: Disk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        world.reboot()
    assert world.served()
    assert "age=" in caplog.text


def test_what_no_longer_fits_is_cut_off_so_that_later_deltas_count(world: Disk) -> None:
    world.ends(2)
    kept = world.on_disk()
    world.agent.close()
    journal = Journal(world.folder, HERE)
    journal.keep(Record((*kept, b"\xff\xff"), whole=True))
    journal.close()
    world._start()
    world.connect()
    world.settle()
    world.ends(3)
    world.reboot()
    assert world.agent.mirror.slices_of("ns", "web")[0].endpoints[0].address == bytes((10, 244, 1, 3))


def forged(protocol: ob.Protocol.ValueType = ob.PROTOCOL_TCP, ranges: Sequence[str] = ()) -> tuple[bytes, ...]:
    """A snapshot of one Service of this kind, as an attacker would write it; checksum and digest have no key."""
    port = ob.ServicePort(name="", protocol=protocol, port=80)
    service = ob.Service(
        namespace="ns", name="web", cluster_ips=[bytes((10, 96, 0, 1))], ports=[port],
        load_balancer_source_ranges=ranges,
    )  # fmt: skip
    op = ob.Op(service=service)
    mirror = Mirror()
    mirror.commit(mirror.prepare(decode_ops([op])))
    counts = pb.Counts(services=1)
    return tuple(
        message.SerializeToString()
        for message in (
            pb.WatchResponse(snapshot_begin=pb.SnapshotBegin(epoch=b"e" * 16, rev=7, counts=counts, chunks=1)),
            pb.WatchResponse(snapshot_chunk=pb.SnapshotChunk(index=0, ops=[op], encoding=pb.ENCODING_IDENTITY)),
            pb.WatchResponse(snapshot_end=pb.SnapshotEnd(rev=7, counts=counts, digest=mirror.digest.value)),
        )
    )


FORGED = {
    "source range": forged(ranges=["x"]),
    "protocol": forged(protocol=ob.PROTOCOL_UNSPECIFIED),
}


@pytest.mark.parametrize("messages", FORGED.values(), ids=FORGED)
def test_one_bad_object_in_the_journal_ends_nothing(world: Disk, messages: tuple[bytes, ...]) -> None:
    world.agent.close()
    journal = Journal(world.folder, HERE)
    journal.keep(Record(messages, whole=True))
    journal.close()
    world.reboot()
    assert world.agent.mirror.invalid
    world.connect()
    world.settle()
    assert world.differences() == []


def broken(*_: object, **__: object) -> None:
    raise KeyError("anything")


@pytest.mark.parametrize(
    "where",
    [
        "nodeagent.stream.session.Session.restore",
        "nodeagent.stream.mirror.Mirror.prepare_replace",
        "nodeagent.stream.mirror.Mirror.commit",
        "nodeagent.node.node_info.NodeInfo.forwarding",
        "nodeagent.dataplane.nftables.dataplane.NftablesDataplane.apply",
    ],
)
def test_a_journal_that_cannot_be_replayed_is_set_aside_and_the_agent_takes_a_snapshot(
    world: Disk, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(where, broken)
        world.reboot()
    assert not world.served()
    assert not (world.folder / NAME).exists()
    assert (world.folder / BAD).stat().st_mode & 0o777 == 0o600
    assert len(world.said) == 1
    assert "cannot be replayed: KeyError" in world.said[0]
    world.connect()
    world.settle()
    assert world.differences() == []
    assert world.served()
    assert world.on_disk()


def test_a_state_from_the_journal_that_cannot_be_committed_later_is_set_aside(
    world: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.restart_agent()  # the kernel holds what was programmed: nothing is committed before a Welcome
    world.connect()
    with monkeypatch.context() as patched:
        patched.setattr("nodeagent.node.node_info.NodeInfo.forwarding", broken)
        with pytest.raises(KeyError):
            world.settle()
    assert (world.folder / BAD).exists()
    world.connect()
    world.settle()
    assert world.served()
    assert world.differences() == []


@pytest.mark.parametrize("content", [(b"\xff" * 20,), (b"\x00",), (b"",), forged()[:2]])
def test_what_has_no_whole_state_in_it_is_set_aside(world: Disk, content: tuple[bytes, ...]) -> None:
    world.agent.close()
    journal = Journal(world.folder, HERE)
    journal.keep(Record(content, whole=True))
    journal.close()
    world.reboot()
    assert "no whole state" in world.said[0]
    assert (world.folder / BAD).exists()


class Killed(BaseException):
    """The kernel ends the process: there is no more memory."""


def killed(*_: object, **__: object) -> None:
    raise Killed


def test_a_journal_that_ends_the_process_itself_is_set_aside_at_last(
    world: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("nodeagent.stream.session.Session.restore", killed)
        patched.setattr("nodeagent.stream.keeper.Keeper.recovered", lambda _: None)
        for _ in range(TRIES):
            with pytest.raises(Killed):
                world.reboot()
        world.reboot()
    assert f"{TRIES} starts ended" in world.said[0]
    assert (world.folder / BAD).exists()
    world.connect()
    world.settle()
    assert world.differences() == []


def test_starts_that_come_to_an_end_are_not_counted(world: Disk) -> None:
    for _ in range(2 * TRIES):
        world.reboot()
        assert world.served()
    assert sorted(path.name for path in world.folder.iterdir()) == [NAME, LOCK]
