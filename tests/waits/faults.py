"""The faults, and what `wait` has to say while each is there."""

from __future__ import annotations

import fcntl
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from deltaplane.v1 import inspection_pb2 as pb
from tests.faults.world import Replica, until
from tests.waits.doors import BOTH
from tests.waits.world import Node, Plane, World

LATER = 1.2  # seconds after which a replica is paused: each question takes longer


class Reason(NamedTuple):
    """What is right to say of a node: one of these reasons, and what the rest of it has to be."""

    reasons: frozenset[int]
    fits: Callable[[pb.Lacking], bool] = lambda _: True

    def right(self, said: pb.Lacking) -> bool:
        return said.reason in self.reasons and self.fits(said)


class Effect(NamedTuple):
    """While a fault is there: what is said of each node that lacks the change.

    `passing`: those of them that have it soon, though the fault stays. `away`: replicas that cannot be asked.
    `poisoned`: the number of the node whose kernel refuses the Service that is changed.
    """

    said: Mapping[str, Reason]
    passing: frozenset[str] = frozenset()
    away: frozenset[int] = frozenset()
    poisoned: int | None = None


class Setting:
    """What a fault may take. `streams`: which replica has each node's stream."""

    def __init__(self, world: World, chance: random.Random, streams: Mapping[str, int]) -> None:
        self.world, self.chance, self.streams = world, chance, streams
        self.taken: set[str] = set()  # nodes that another fault of the round has

    def node(self, mode: str = "") -> Node:
        """One that no other fault has."""
        free = [each for each in self.world.nodes if each.name not in self.taken and mode in each.mode]
        if not free:
            raise NoNode
        node = self.chance.choice(free)
        self.taken.add(node.name)
        return node

    def replica(self) -> Plane:
        """Mostly one that has streams; no other fault has their nodes."""
        planes = self.world.planes
        with_streams = [plane for plane in planes if plane.number in self.streams.values()]
        plane = self.chance.choice(with_streams if self.chance.random() < 0.8 else planes)
        self.taken.update(self.at(plane))
        return plane

    def at(self, plane: Plane) -> list[str]:
        """The nodes whose streams it has."""
        return [name for name, number in self.streams.items() if number == plane.number]


class NoNode(Exception):
    """The other fault has them all."""


Fault = Callable[[Setting], AbstractContextManager[Effect]]


def _reason(*reasons: int, fits: Callable[[pb.Lacking], bool] = lambda _: True) -> Reason:
    return Reason(frozenset(reasons), fits)


QUIET = _reason(pb.LACK_REASON_BEHIND, fits=lambda said: not said.pending_rev and "stopped, cut off" in said.text)
BUSY = _reason(pb.LACK_REASON_BEHIND, fits=lambda said: said.pending_rev > 0 and "commit" in said.text)
GONE = _reason(pb.LACK_REASON_DISCONNECTED)
GONE_OR_ELSEWHERE = _reason(
    pb.LACK_REASON_DISCONNECTED, pb.LACK_REASON_REPLICA_SILENT,
    fits=lambda said: "disconnected" in said.text or "knows its agent" in said.text,
)  # fmt: skip
REFUSED = _reason(pb.LACK_REASON_FAILED, fits=lambda said: "the kernel refused" in said.failure.text)
SILENT = _reason(pb.LACK_REASON_REPLICA_SILENT)
LATE = _reason(pb.LACK_REASON_REPLICA_BEHIND)
MOVING = _reason(
    pb.LACK_REASON_REPLICA_SILENT, pb.LACK_REASON_SYNCING, pb.LACK_REASON_DISCONNECTED, pb.LACK_REASON_BEHIND
)


@contextmanager
def nothing(on: Setting) -> Iterator[Effect]:
    yield Effect({})


@contextmanager
def agent_stopped(on: Setting) -> Iterator[Effect]:
    node = on.node()
    node.running.signal(signal.SIGSTOP)
    try:
        yield Effect({node.name: QUIET})
    finally:
        node.running.signal(signal.SIGCONT)


@contextmanager
def agent_slow(on: Setting) -> Iterator[Effect]:
    node = on.node()
    node.slow.touch()
    try:
        yield Effect({node.name: BUSY})
    finally:
        node.slow.unlink()


@contextmanager
def lock_held(on: Setting) -> Iterator[Effect]:
    node = on.node("iptables")
    with node.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Effect({node.name: BUSY})


def _cut(directions: frozenset[str]) -> Fault:
    @contextmanager
    def cut(on: Setting) -> Iterator[Effect]:
        node = on.node()
        _each(node, lambda place: node.doors[place].hold(directions))
        try:
            yield Effect({node.name: QUIET})
        finally:
            _each(node, lambda place: node.doors[place].open())

    return cut


def _each(node: Node, act: Callable[[int], None]) -> None:
    for place in range(len(node.doors)):
        act(place)


@contextmanager
def agent_shut_out(on: Setting) -> Iterator[Effect]:
    node = on.node()
    _each(node, lambda place: node.doors[place].shut())
    try:
        yield Effect({node.name: GONE})
    finally:
        _each(node, lambda place: node.doors[place].open())


@contextmanager
def agent_killed(on: Setting) -> Iterator[Effect]:
    node = on.node()
    node.kill()
    try:
        yield Effect({node.name: GONE})
    finally:
        node.start()


@contextmanager
def agent_elsewhere(on: Setting) -> Iterator[Effect]:
    """The agent is killed and started again, and its replica does not learn it: it still shows the stream as open."""
    node = on.node()
    door = node.doors[on.streams[node.name]]
    door.shut(half_open=True)
    node.kill()
    node.start()
    others = [plane for plane in on.world.planes if plane.number != on.streams[node.name]]
    until(lambda: any(node.name in plane.mine() for plane in others), on.world.state)
    try:
        yield Effect({node.name: MOVING}, frozenset({node.name}))
    finally:
        door.open()


@contextmanager
def poison(on: Setting) -> Iterator[Effect]:
    node = on.node("nftables")
    yield Effect({node.name: REFUSED}, poisoned=node.number)


def _said(nodes: Iterable[str], reason: Reason) -> dict[str, Reason]:
    return dict.fromkeys(nodes, reason)


@contextmanager
def replica_stopped(on: Setting) -> Iterator[Effect]:
    plane = on.replica()
    plane.running.signal(signal.SIGSTOP)
    try:
        yield Effect(_said(on.at(plane), SILENT), away=frozenset({plane.number}))
    finally:
        plane.running.signal(signal.SIGCONT)


@contextmanager
def replica_paused_later(on: Setting) -> Iterator[Effect]:
    """An agent is stopped, and its replica is paused after it has said so."""
    node = on.node()
    plane = on.world.planes[on.streams[node.name]]
    node.running.signal(signal.SIGSTOP)
    later = threading.Timer(LATER, plane.running.signal, (signal.SIGSTOP,))
    later.start()
    others = frozenset(on.at(plane)) - {node.name}
    try:
        yield Effect(_said((*others, node.name), SILENT), others, frozenset({plane.number}))
    finally:
        later.cancel()
        later.join()
        plane.running.signal(signal.SIGCONT)
        node.running.signal(signal.SIGCONT)


def _ended(end: Callable[[Plane], None]) -> Fault:
    @contextmanager
    def ended(on: Setting) -> Iterator[Effect]:
        plane = on.replica()
        end(plane)
        try:
            yield Effect(_said(on.at(plane), MOVING), frozenset(on.at(plane)), frozenset({plane.number}))
        finally:
            plane.kill()
            Replica.start(plane)

    return ended


@contextmanager
def replica_behind(on: Setting) -> Iterator[Effect]:
    plane = on.replica()
    with on.world.objects.held(plane.number):
        yield Effect(_said(on.at(plane), LATE), away=frozenset({plane.number}))


AGENTS: dict[str, Fault] = {
    "agent stopped": agent_stopped,
    "agent slow": agent_slow,
    "xtables lock held": lock_held,
    "agent cut off": _cut(BOTH),
    "agent cut off, to it": _cut(frozenset({"to the agent"})),
    "agent cut off, from it": _cut(frozenset({"from the agent"})),
    "agent shut out": agent_shut_out,
    "agent killed": agent_killed,
    "agent elsewhere": agent_elsewhere,
}
REPLICAS: dict[str, Fault] = {
    "replica paused": replica_stopped,
    "replica killed": _ended(lambda plane: plane.kill()),
    "replica stopped": _ended(lambda plane: plane.running.signal(signal.SIGTERM)),
    "replica behind": replica_behind,
}
FAULTS = {"none": nothing, **AGENTS, "object poisoned": poison, **REPLICAS}


@contextmanager
def two(on: Setting) -> Iterator[Effect]:
    """An agent's and another agent's, or a replica's and that of an agent whose stream is elsewhere."""
    first = on.chance.choice([*AGENTS, *REPLICAS])
    with FAULTS[first](on) as one:
        try:
            second = AGENTS[on.chance.choice([name for name in AGENTS if name != "agent elsewhere"])](on)
            other = second.__enter__()
        except NoNode:
            yield one
            return
        try:
            yield joined((one, other))
        finally:
            second.__exit__(None, None, None)


FAULTS |= {"two at once": two, "agent stopped, then its replica paused": replica_paused_later}


def joined(effects: Sequence[Effect]) -> Effect:
    """Of several faults at once. Where a replica does not answer, it may have the stream of an agent that is gone."""
    away = frozenset[int]().union(*(effect.away for effect in effects))
    said: dict[str, Reason] = {}
    for effect in effects:
        said |= {name: GONE_OR_ELSEWHERE if away and reason is GONE else reason for name, reason in effect.said.items()}
    passing = frozenset[str]().union(*(effect.passing for effect in effects))
    return Effect(said, passing, away)
