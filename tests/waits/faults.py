"""The faults, and what `wait` has to say while each is there."""

from __future__ import annotations

import fcntl
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from deltaplane.v1 import inspection_pb2 as pb
from tests.faults.world import Replica, until
from tests.waits.doors import BOTH
from tests.waits.world import Node, Plane, World


class Reason(NamedTuple):
    """What is right to say of a node: one of these reasons, and what the rest of it has to be."""

    reasons: frozenset[int]
    fits: Callable[[pb.Lacking], bool] = lambda _: True

    def right(self, said: pb.Lacking) -> bool:
        return said.reason in self.reasons and self.fits(said)


class Effect(NamedTuple):
    """While a fault is there: what is said of each node that lacks the change.

    `passing`: such a node has it soon, though the fault stays. `away`: replicas that cannot be asked. `poisoned`: the
    number of the node whose kernel refuses the Service that is changed.
    """

    said: Mapping[str, Reason]
    passing: bool = False
    away: frozenset[int] = frozenset()
    poisoned: int | None = None


Fault = Callable[[World, random.Random, Mapping[str, int]], AbstractContextManager[Effect]]


def _reason(*reasons: int, fits: Callable[[pb.Lacking], bool] = lambda _: True) -> Reason:
    return Reason(frozenset(reasons), fits)


QUIET = _reason(pb.LACK_REASON_BEHIND, fits=lambda said: not said.pending_rev and "stopped, cut off" in said.text)
BUSY = _reason(pb.LACK_REASON_BEHIND, fits=lambda said: said.pending_rev > 0 and "commit" in said.text)
GONE = _reason(pb.LACK_REASON_DISCONNECTED)
REFUSED = _reason(pb.LACK_REASON_FAILED, fits=lambda said: "the kernel refused" in said.failure.text)
SILENT = _reason(pb.LACK_REASON_REPLICA_SILENT)
LATE = _reason(pb.LACK_REASON_REPLICA_BEHIND)
MOVING = _reason(pb.LACK_REASON_REPLICA_SILENT, pb.LACK_REASON_SYNCING, pb.LACK_REASON_DISCONNECTED)


@contextmanager
def nothing(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    yield Effect({})


@contextmanager
def agent_stopped(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    node = chance.choice(world.nodes)
    node.running.signal(signal.SIGSTOP)
    try:
        yield Effect({node.name: QUIET})
    finally:
        node.running.signal(signal.SIGCONT)


@contextmanager
def agent_slow(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    node = chance.choice(world.nodes)
    node.slow.touch()
    try:
        yield Effect({node.name: BUSY})
    finally:
        node.slow.unlink()


@contextmanager
def lock_held(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    node = chance.choice([each for each in world.nodes if each.mode == "iptables"])
    with node.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Effect({node.name: BUSY})


def _cut(directions: frozenset[str]) -> Fault:
    @contextmanager
    def cut(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
        node = chance.choice(world.nodes)
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
def agent_shut_out(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    node = chance.choice(world.nodes)
    _each(node, lambda place: node.doors[place].shut())
    try:
        yield Effect({node.name: GONE})
    finally:
        _each(node, lambda place: node.doors[place].open())


@contextmanager
def agent_killed(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    node = chance.choice(world.nodes)
    node.kill()
    try:
        yield Effect({node.name: GONE})
    finally:
        node.start()


@contextmanager
def agent_elsewhere(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    """The agent is killed and started again, and its replica does not learn it: it still shows the stream as open."""
    node = chance.choice(world.nodes)
    door = node.doors[streams[node.name]]
    door.shut(half_open=True)
    node.kill()
    node.start()
    others = [plane for plane in world.planes if plane.number != streams[node.name]]
    until(lambda: any(node.name in plane.mine() for plane in others), world.state)
    try:
        yield Effect({node.name: MOVING}, passing=True)
    finally:
        door.open()


@contextmanager
def poison(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    node = chance.choice([each for each in world.nodes if each.mode == "nftables"])
    yield Effect({node.name: REFUSED}, poisoned=node.number)


def _replica(world: World, chance: random.Random, streams: Mapping[str, int]) -> Plane:
    """Mostly one that has streams."""
    with_streams = [plane for plane in world.planes if plane.number in streams.values()]
    return chance.choice(with_streams if chance.random() < 0.8 else world.planes)


def _at(plane: Plane, streams: Mapping[str, int], reason: Reason) -> dict[str, Reason]:
    return {name: reason for name, number in streams.items() if number == plane.number}


@contextmanager
def replica_stopped(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    plane = _replica(world, chance, streams)
    plane.running.signal(signal.SIGSTOP)
    try:
        yield Effect(_at(plane, streams, SILENT), away=frozenset({plane.number}))
    finally:
        plane.running.signal(signal.SIGCONT)


def _ended(end: Callable[[Plane], None]) -> Fault:
    @contextmanager
    def ended(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
        plane = _replica(world, chance, streams)
        end(plane)
        try:
            yield Effect(_at(plane, streams, MOVING), passing=True, away=frozenset({plane.number}))
        finally:
            plane.kill()
            Replica.start(plane)

    return ended


@contextmanager
def replica_behind(world: World, chance: random.Random, streams: Mapping[str, int]) -> Iterator[Effect]:
    plane = _replica(world, chance, streams)
    with world.objects.held(plane.number):
        yield Effect(_at(plane, streams, LATE), away=frozenset({plane.number}))


FAULTS: dict[str, Fault] = {
    "none": nothing,
    "agent stopped": agent_stopped,
    "agent slow": agent_slow,
    "xtables lock held": lock_held,
    "agent cut off": _cut(BOTH),
    "agent cut off, to it": _cut(frozenset({"to the agent"})),
    "agent cut off, from it": _cut(frozenset({"from the agent"})),
    "agent shut out": agent_shut_out,
    "agent killed": agent_killed,
    "agent elsewhere": agent_elsewhere,
    "object poisoned": poison,
    "replica paused": replica_stopped,
    "replica killed": _ended(lambda plane: plane.kill()),
    "replica stopped": _ended(lambda plane: plane.running.signal(signal.SIGTERM)),
    "replica behind": replica_behind,
}
