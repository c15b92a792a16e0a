"""A replica, a node with the real agent and dataplane, and the link between them, all in one thread on one clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from unittest.mock import patch

from controlplane.facts import Fact
from controlplane.session import Limits
from controlplane.session import Session as Stream
from deltaplane.model import Kind, Object
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.agent import Agent
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.program import program
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.dataplane.nftables.shared import Builder
from nodeagent.dataplane.resolver import Resolver
from nodeagent.linux.nft.kernel import Kernel
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.events import Record
from nodeagent.stream.frames import Replay
from nodeagent.stream.journal import Journal
from nodeagent.stream.mirror import Mirror
from tests.fakes.nftables.memory import MemoryKernel
from tests.sessions.link import Replica
from tests.soak.canonical import canonical, differences, structure, without_spare
from tests.soak.objects import HERE
from tests.soak.trouble import Died, TroubledKernel, Troubles

SETTINGS = Settings(("10.244.0.0/16", "fd00:244::/64"))
PROGRAMS = [program(family, SETTINGS) for family in (4, 6)]
LIMITS = Limits(window_deltas=3)  # small, as the ring is: merging, snapshots and stalls happen within a few operations
RING = 30_000
_JOURNAL = 60  # messages
_PATIENCE = 700  # seconds for a state to arrive when nothing fails: longer than every time limit but the brake's


class Clock:
    """In place of `time` and `gc` in the agent: only `World` lets time pass, and nothing is collected by hand."""

    now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return int(self.now * 1e9)

    time_ns = perf_counter_ns

    def enable(self) -> None:
        """Of `gc`, as are the others."""

    disable = collect = freeze = enable


class Kept(Journal):
    """A journal without a disk."""

    def __init__(self) -> None:
        super().__init__("")
        self.messages: list[bytes] = []

    def replay(self) -> Replay:
        return Replay(list(self.messages))

    def resume(self, found: Replay, number: int) -> None:
        del self.messages[number:]

    def set_aside(self, reason: str) -> None:
        self.messages.clear()

    def trying(self) -> int:
        return 0

    def tried(self) -> None:
        """Nothing is on disk."""

    def age(self) -> float:
        return 0.0

    def keep(self, record: Record, cluster: str = "") -> None:
        if record.whole:
            self.messages = list(record.messages)
        elif self.messages:
            self.messages += record.messages

    def full(self, more: int = 0) -> bool:
        return len(self.messages) + bool(more) > _JOURNAL


class World:
    """`connect` opens the kernel for each life of the agent; `wipe` empties it, as a reboot does."""

    def __init__(self, connect: Callable[[], Kernel], wipe: Callable[[], None]) -> None:
        self.clock = Clock()
        self.replica = Replica(limits=LIMITS, max_bytes=RING)
        self.journal = Kept()
        self.down: deque[bytes] = deque()
        self.up: deque[bytes] = deque()
        self.stream: Stream | None = None
        self.troubles = Troubles()
        self._connect, self.wipe = connect, wipe
        self._start()

    # ------------------------------------------------------------ input

    def put(self, *facts: Fact) -> None:
        self.replica.put(*facts, now=self.clock.now)

    def relist(self, kind: Kind, objects: Iterable[Object]) -> None:
        """The source lists one kind anew."""
        replica = self.replica
        changes = replica.store.replace(kind, [Fact(item.key, item) for item in objects], "1")
        replica.log.append(
            changes, digest=replica.store.digest.value, versions=replica.store.versions, now=self.clock.now, unix_nano=1
        )

    # ------------------------------------------------------------ processes

    def _start(self) -> None:
        self.kernel = TroubledKernel(self._connect(), self.troubles)
        self.dataplane = NftablesDataplane(self.kernel, SETTINGS)
        self.dataplane.start()
        self.agent = Agent(NodeInfo(HERE), self.dataplane, self.journal)
        with self._living():
            self.agent.recover()

    @contextmanager
    def _living(self) -> Iterator[None]:
        """Where the process ends in between, another one starts."""
        try:
            yield
        except Died:
            self.restart_agent()

    def restart_agent(self) -> None:
        """A new process on the same kernel and journal."""
        self.cut()
        self.agent.close()
        self._start()

    def restart_control_plane(self) -> None:
        """A new one: another epoch, the same objects."""
        self.cut()
        self.replica = Replica(list(self.replica.store.objects()), limits=LIMITS, max_bytes=RING)

    def reboot(self) -> None:
        self.cut()
        self.agent.close()
        self.wipe()
        self._start()

    # ------------------------------------------------------------ link

    def connect(self) -> None:
        self.cut()
        self.stream = self.replica.stream()
        self.up.append(self.agent.connected(self.clock.now))

    def cut(self) -> None:
        self.stream = None
        self.down.clear()
        self.up.clear()
        self.agent.disconnected(self.clock.now)

    def pull(self) -> None:
        """The server writes whatever it has."""
        while self.stream is not None and (message := self.stream.next_message(self.clock.now)) is not None:
            self.down.append(message)

    def deliver_up(self) -> None:
        if self.up and self.stream is not None:
            self.stream.on_message(pb.WatchRequest.FromString(self.up.popleft()), self.clock.now)

    def deliver_down(self) -> None:
        if self.down:
            message = self.down.popleft()
            with self._living():
                self.up += self.agent.received(message, self.clock.now)

    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now += seconds
        with self._living():
            self.up += self.agent.tick(self.clock.now)

    def step(self, seconds: float = 0.0) -> None:
        """Everything under way arrives."""
        self.tick(seconds)
        self.pull()
        while self.stream is not None and (self.up or self.down):
            self.deliver_up()
            self.pull()
            self.deliver_down()
        if self.stream is None or self.stream.closed or self.agent.lost(self.clock.now):
            self.connect()

    # ------------------------------------------------------------ truth

    def settle(self) -> None:
        """Nothing fails for as long as it takes. Raises AssertionError if the state never arrives.

        A list without most Services is right here, so the operator releases what the safety brake holds (S7).
        """
        self.troubles.waiting.clear()
        for _ in range(_PATIENCE):
            if self._arrived():
                return
            if self.stream is not None:
                self.stream.release_brake()  # does nothing where nothing is held
            self.step(1.0)
        raise AssertionError("the last input never arrived")

    def _arrived(self) -> bool:
        replica, stream = self.replica, self.stream
        return (
            stream is not None
            and stream.applied_rev == replica.log.head
            and self.agent.mirror.digest.value == replica.store.digest.value
            and self.agent.complete
            and not self.dataplane.pending()
        )

    def differences(self) -> list[str]:
        """Where the kernel is not what a new dataplane would write on an empty one, given the last input."""
        mirror = Mirror()
        mirror.commit(mirror.prepare_replace(self.replica.objects()))
        here = NodeInfo(HERE)
        view = here.view(mirror)
        services = Resolver(mirror).resolve_all(view)
        empty = MemoryKernel()
        fresh = NftablesDataplane(empty, SETTINGS)
        fresh.start()
        fresh.apply(services, here.forwarding(mirror), complete=True)
        self.dataplane.apply(())  # chains that the kernel would not let go of are taken away with the next change
        made = structure(empty, PROGRAMS)
        there = without_spare(structure(self.kernel, PROGRAMS), made)
        return [
            *differences(canonical(self.dataplane.dump()), canonical(fresh.dump())),
            *differences(there, made),
        ]


@contextmanager
def remembering() -> Iterator[None]:
    """The program and its shared chains, which depend on settings and names alone, are rendered once in a run.

    Half of the time would go there otherwise: every start and every comparison renders them all.
    """
    with (
        patch("nodeagent.dataplane.nftables.dataplane.program", lru_cache(program)),
        patch.object(Builder, "part", lru_cache(2048)(Builder.part)),
    ):
        yield


@contextmanager
def ticking(world: World) -> Iterator[None]:
    """The agent's modules see this world's clock."""
    with (
        patch("nodeagent.agent.time", world.clock),
        patch("deltaplane.moments.time", world.clock),
        patch("nodeagent.sync.commits.time", world.clock),
        patch("nodeagent.sync.programmer.time", world.clock),
        patch("nodeagent.sync.garbage.gc", world.clock),
        patch("nodeagent.node.node_info.time", world.clock),
    ):
        yield
