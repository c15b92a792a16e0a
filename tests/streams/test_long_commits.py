"""A commit takes as long as it takes: meanwhile pages answer, the stream stays, and what was done is acknowledged.

A real server and the agent's own client over sockets; the dataplane waits for the test.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from bench import cluster
from controlplane.acked import Pending
from controlplane.cluster import WATCHED, Cluster
from controlplane.facts import Fact
from controlplane.log import Log
from controlplane.server import Server
from controlplane.session import Limits, Session
from controlplane.trace import NoTracing
from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from nodeagent.agent import Agent
from nodeagent.dataplane.at_home import PORTION, AtHome
from nodeagent.dataplane.commit_hooks import Wanted
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.errors import KernelUnavailable
from nodeagent.metrics.registry import Metrics
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.beside import Beside
from nodeagent.stream.client import Client
from nodeagent.web.health import Health, HealthPages
from tests.fakes.nftables.memory import MemoryKernel
from tests.streams.peer import PATIENCE, TIMES, running
from tools.lab.ports import free_port

SILENCE = 1.5  # seconds; replicas of this test speak every half a second
SERVICES = 2 * PORTION + 10


class Held(NftablesDataplane):
    """A kernel in memory behind a gate; `slow` has every call be made beside the loop."""

    slow = True

    def __init__(self) -> None:
        super().__init__(MemoryKernel())
        self.gate = threading.Event()
        self.gate.set()
        self.applied: list[tuple[str, ...]] = []
        self.waits, self.refuses = False, ""

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        if self.refuses:
            raise KernelUnavailable(self.refuses)
        self.waits = True
        assert self.gate.wait(PATIENCE)
        self.waits = False
        self.applied.append(tuple(service.key.name for service in services))
        return super().apply(services, node, complete=complete)


class Follows:
    """A follower that notes what it hears, and on which thread."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.wanted: list[int] = []
        self.threads: set[threading.Thread] = set()

    def want(self, wanted: Wanted) -> None:
        self._hears("want")
        self.wanted.append(len(wanted.services))
        assert not wanted.complete or wanted.names is None or len(wanted.names) == SERVICES

    def committed(self, done: Commit, seconds: float) -> None:
        self._hears("committed")

    def refused(self) -> None:
        self._hears("refused")

    def failures(self) -> tuple[Failed, ...]:
        self._hears("failures")
        return ()

    def _hears(self, what: str) -> None:
        self.said.append(what)
        self.threads.add(threading.current_thread())


class Node:
    """The agent with its client, pages and metrics, as `nodeagent.app` wires them."""

    def __init__(self, server: str) -> None:
        self.dataplane, self.follows, self.metrics = Held(), Follows(), Metrics()
        self.dataplane.start()
        self.beside = Beside()
        hooks = [AtHome(self.beside.at_home, [self.follows])]
        self.agent = Agent(NodeInfo(cluster.NODE), self.dataplane, hooks=hooks, metrics=self.metrics, silence=SILENCE)
        self.client = Client([server], self.agent, times=TIMES, beside=self.beside)
        self.pages = HealthPages(Health(60.0), lambda: self.agent.mirror.nodes.get(cluster.NODE), lambda *_: None)

    def figure(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(name) or 0.0


class World(NamedTuple):
    state: Cluster
    server: Server
    node: Node


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A replica with some hundred Services, and a node that has them in its kernel."""
    state = Cluster(Log(), NoTracing())
    for kind in WATCHED:
        things = [thing for thing in cluster.objects(SERVICES, 2) if thing.key.kind == kind]
        state.replace(kind, [Fact(thing.key, thing) for thing in things], "1")
        state.synced(kind)
    address = f"127.0.0.1:{free_port()}"
    server = Server(address, state, NoTracing(), limits=Limits(heartbeat=SILENCE / 5))
    await server.start()
    serving = asyncio.create_task(server.run())
    node = Node(address)
    try:
        async with running(node.client):
            await until(lambda: node.agent.complete and not node.beside.busy)
            yield World(state, server, node)
            node.dataplane.gate.set()
        assert await node.beside.close(PATIENCE)
    finally:
        node.dataplane.gate.set()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await server.stop()


async def test_during_a_long_commit_the_node_answers_its_stream_stays_and_what_came_meanwhile_follows() -> None:
    async with world() as (state, _, node):
        changes = cluster.Changes(SERVICES, 2)
        before = node.figure("deltaplane_stream_connects_total")
        node.dataplane.applied.clear()
        node.dataplane.gate.clear()
        state.update([changes.next()])
        await until(lambda: node.dataplane.waits)
        state.update([changes.next()])
        aside = asyncio.create_task(node.client.aside(node.agent.kernel_changed))

        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(2 * SILENCE)  # longer than silence is borne
        assert (await node.pages("/livez")).status == 200
        assert node.figure("deltaplane_stream_connected") == 1
        assert node.dataplane.applied == []

        node.dataplane.gate.set()
        await until(lambda: len(node.dataplane.applied) == 2)
        await aside
        await asyncio.sleep(3 * TIMES.look)  # a look of the ticker, which ends streams that are silent
        assert node.figure("deltaplane_stream_connects_total") == before == 1


async def test_all_that_comes_during_a_long_commit_is_one_commit_and_acknowledged_together() -> None:
    async with world() as (state, server, node):
        changes = cluster.Changes(SERVICES, 2)
        (session,) = server.nodes
        node.dataplane.applied.clear()
        node.dataplane.gate.clear()
        state.update([changes.next()])
        await until(lambda: node.dataplane.waits)
        came: set[str] = set()
        for _ in range(20):
            change = changes.next()
            came.add(change.key.name.removesuffix("-abcde"))
            state.update([change])
            await asyncio.sleep(0.02)  # a delta of its own, as the replica is not kept waiting
        stream = node.client._stream
        assert stream is not None
        inbox = stream._inbox
        assert inbox is not None
        await until(lambda: len(inbox._waiting) >= 10)
        node.dataplane.gate.set()

        await until(lambda: session.applied_rev == state.log.head)
        first, *rest = node.dataplane.applied
        assert len(first) == 1
        assert {name for names in rest for name in names} == came
        assert len(rest) <= 2  # all that was there, and what was under way


async def test_an_earlier_change_is_acknowledged_before_a_long_commit_begins() -> None:
    async with world() as (state, server, node):
        changes = cluster.Changes(SERVICES, 2)
        session = node.agent._session
        session.acks.min_interval = 3600.0  # nothing is due by itself
        node.dataplane.applied.clear()
        state.update([changes.next()])
        await until(lambda: len(node.dataplane.applied) == 1 and not node.beside.busy)
        done = session.applied_rev
        node.dataplane.gate.clear()
        state.update([changes.next()])
        await until(lambda: node.dataplane.waits)

        await until(lambda: any(each.applied_rev >= done for each in server.nodes))
        assert node.dataplane.waits


async def test_followers_hear_on_the_loops_thread_in_order_and_a_whole_state_in_portions() -> None:
    async with world() as (_, _, node):
        assert node.follows.threads == {threading.current_thread()}
        assert node.follows.wanted[:3] == [PORTION, PORTION, SERVICES - 2 * PORTION]
        assert node.follows.said[:5] == ["want", "want", "want", "committed", "failures"]


async def until(true: Callable[[], bool]) -> None:
    """Lets the loop run until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.01)


async def test_a_replica_hears_of_a_long_commit_while_it_lasts_and_of_nothing_else() -> None:
    async with world() as (state, server, node):
        changes = cluster.Changes(SERVICES, 2)
        state.update([changes.next()])
        (session,) = server.nodes
        await until(lambda: session.applied_rev == state.log.head)
        assert waiting(session) is None
        node.dataplane.gate.clear()
        state.update([changes.next()])
        await until(lambda: waiting(session) is not None)

        pending = waiting(session)
        assert pending is not None
        assert (pending.rev, pending.text) == (state.log.head, "")
        assert node.dataplane.waits
        node.dataplane.gate.set()
        await until(lambda: session.applied_rev == state.log.head)
        assert waiting(session) is None
        assert session.closed is None


async def test_a_replica_hears_why_a_kernel_takes_nothing() -> None:
    async with world() as (state, server, node):
        changes = cluster.Changes(SERVICES, 2)
        (session,) = server.nodes
        node.dataplane.refuses = "another program holds the lock"
        state.update([changes.next()])
        await until(lambda: waiting(session) is not None)

        pending = waiting(session)
        assert pending is not None
        assert (pending.rev, pending.text) == (state.log.head, "another program holds the lock")
        node.dataplane.refuses = ""
        await until(lambda: session.applied_rev == state.log.head)
        assert waiting(session) is None


def waiting(session: Session) -> Pending | None:
    """What its agent says is pending, now."""
    return session.acked.pending
