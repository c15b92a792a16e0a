"""Which agents a replica sends to another one, so that all replicas have about as many streams. Pure; no leader.

Every replica knows the same set of replicas and the same Nodes, so that it needs no other's counts: its fair share is
Nodes / replicas, since each node has one agent. For each node all replicas work out the same home among them
(rendezvous hashing: the replica with the highest hash of both names). One that has far more than its share sends away
agents whose home is another, each to its home: so none is sent on from there, and those that remain are at home.

A stream counts as moved here when it began: whoever came in the last five minutes, for whatever reason, stays. Times
are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import inf
from typing import Protocol, TypeVar

FACTOR, SPARE = 1.25, 50  # of the fair share, and streams: so many are no reason
SUSTAINED = 60.0  # seconds for which there have to be more, at the same set of replicas
RATE = 0.01  # of the streams, sent away per second at most
SETTLED = 300.0  # seconds after which a stream may be sent away


class Stream(Protocol):
    """What is asked of a stream."""

    @property
    def node_name(self) -> str:
        """Its node; empty before its Hello."""

    @property
    def since(self) -> float:
        """When its Hello came."""


S = TypeVar("S", bound=Stream)


class Rebalance:
    """Of the replica that agents reach at `me` (HOST:PORT, as the set of replicas has it)."""

    def __init__(self, me: str) -> None:
        self.me = me
        self._replicas: tuple[str, ...] = ()
        self._above_since = inf
        self._looked_at = -inf
        self._allowed = 0.0  # how many may be sent away now

    def look(self, now: float, streams: Iterable[S], nodes: int, replicas: Iterable[str]) -> list[tuple[S, str]]:
        """The streams to send away now, and where to. `streams`: those that are open and were not sent away yet."""
        names, held = tuple(sorted(set(replicas))), list(streams)
        if not self._above(now, len(held), nodes, names):
            self._allowed = 0.0
            return []
        share = RATE * len(held)
        self._allowed = min(max(share, 1.0), self._allowed + share * (now - self._looked_at))
        self._looked_at = now
        surplus = len(held) - limit(nodes, len(names))
        return self._chosen(now, held, names, min(int(self._allowed), int(surplus) + 1))

    def _above(self, now: float, held: int, nodes: int, names: tuple[str, ...]) -> bool:
        """Whether there have been too many for so long that something is to be done."""
        others = self.me in names and len(names) > 1
        if not others or names != self._replicas or held <= limit(nodes, len(names)):
            self._above_since = inf
        self._replicas = names
        if others and held > limit(nodes, len(names)):
            self._above_since = min(self._above_since, now)
        if now - self._above_since >= SUSTAINED:
            return True
        self._looked_at = now
        return False

    def _chosen(self, now: float, held: Iterable[S], names: Sequence[str], most: int) -> list[tuple[S, str]]:
        found: list[tuple[S, str]] = []
        for stream in held:
            if len(found) >= most:
                break
            if now - stream.since >= SETTLED and (there := home(stream.node_name, names)) != self.me:
                found.append((stream, there))
        self._allowed -= len(found)
        return found


def limit(nodes: int, replicas: int) -> float:
    """How many streams a replica may have without sending any away."""
    return FACTOR * nodes / replicas + SPARE


def home(node: str, replicas: Iterable[str]) -> str:
    """The replica at which this node's agent is best; the same on every replica that knows the same set."""
    return max(replicas, key=lambda name: (blake2b(f"{name}\0{node}".encode(), digest_size=8).digest(), name))
