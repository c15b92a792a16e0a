"""How much of a replica one peer may have: streams, Hellos, messages, Events, and who of two agents is a node's.

Asked by `server`. Limits count for an identity (a node) where there is one, and for an address only before the peer is
known, because a whole cluster may be behind one address. What is kept is bounded by the cluster: by its Nodes and by
the streams that are open. Pure; callers pass the time, in monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controlplane.identity.peer import Identity, Refusal
from deltaplane.shares import MOST_KEYS, Allowance, Rates, Shares

STREAMS = 12_288  # open at once, beside two for each Node of the cluster; one address has half of it at most
OF_ONE_NODE = 4  # streams: the newest, the older ones that it supersedes, and those that await a Hello
STRANGERS = 256  # streams of names that are no Node of a cluster that has Nodes
HELLOS, HELLOS_AT_ONCE = 0.5, 10.0  # per second, of one node
STRANGE_HELLOS, STRANGE_HELLOS_AT_ONCE = 4.0, 64.0  # per second, by names that are no Node, from one address
MESSAGES, MESSAGES_AT_ONCE = 200.0, 400.0  # per second, of one node, all its streams together
BYTES, BYTES_AT_ONCE = 256 * 1024.0, 1024 * 1024.0  # likewise
NOTICES, NOTICES_AT_ONCE = 1 / 60, 4.0  # per second, of one node
ALL_NOTICES, ALL_NOTICES_AT_ONCE = 5.0, 1000.0  # per second, of all nodes

PROTOCOL, NO_HELLO = "protocol", "no-hello"  # reasons of ends that the peer is to blame for
SLOWED = Refusal("OK", "messages", "sends faster than it may: it is read more slowly")
STUCK = Refusal("DEADLINE_EXCEEDED", "stuck", "has not taken a message in time")


def _refused(reason: str, text: str) -> Refusal:
    return Refusal("RESOURCE_EXHAUSTED", reason, text)


class ReadRate:
    """How fast the streams of one node are read."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self) -> None:
        self._messages = Allowance(MESSAGES, MESSAGES_AT_ONCE)
        self._bytes = Allowance(BYTES, BYTES_AT_ONCE)

    def wait(self, size: int, now: float) -> float:
        """For how many seconds to read nothing more, after a message of `size` bytes."""
        return max(self._messages.owe(now), self._bytes.owe(now, size))


class Open:
    """The place of one stream; `claimed` tells whose it is. Refusals come before anything moves."""

    def __init__(self, shares: StreamShares, host: str) -> None:
        self.host = host
        self.strange = self.counted = False  # its name is no Node's; it has a place among those that are open
        self._shares = shares

    def hello(self, name: str, now: float) -> Refusal | None:
        """Why this name may not introduce itself now; None: it may."""
        return self._shares.hello(self, name, now)


class StreamShares:
    """`has_node`: whether the cluster has a Node of this name; `nodes`: how many it has."""

    def __init__(self, has_node: Callable[[str], bool], nodes: Callable[[], int]) -> None:
        self._has_node, self._nodes = has_node, nodes
        self._hosts, self._of_node = Shares[str](), Shares[str]()
        self._strangers = 0
        self._hellos = Rates[str](HELLOS, HELLOS_AT_ONCE)
        self._strange = Rates[str](STRANGE_HELLOS, STRANGE_HELLOS_AT_ONCE, 1024)
        self._notices = Rates[str](NOTICES, NOTICES_AT_ONCE)
        self._reads: dict[str, ReadRate] = {}  # the node whose last Hello is the oldest first
        self._all_notices = Allowance(ALL_NOTICES, ALL_NOTICES_AT_ONCE)

    def full(self, host: str) -> Refusal | None:
        """Why this address may open no further stream; None: it may."""
        free = STREAMS + 2 * self._nodes() - len(self._hosts)
        if self._hosts.fits(host, free):
            return None
        return _refused("streams", f"{self._hosts.held(host)} streams of one address, and {max(0, free)} are left")

    @contextmanager
    def stream(self, host: str) -> Iterator[Open]:
        """The place of a stream while the context is open."""
        place = Open(self, host)
        self._hosts.enter(host)
        try:
            yield place
        finally:
            self._hosts.leave(host)
            self._strangers -= place.counted

    def crowded(self, identity: Identity) -> Refusal | None:
        """Why this node may open no further stream; None: it may, or it is not known which node it is."""
        held = self._of_node.held(identity.node)
        if identity.trusted or held < OF_ONE_NODE:
            return None
        return _refused("node-streams", f"node {identity.node} has {held} streams already")

    @contextmanager
    def node(self, identity: Identity) -> Iterator[None]:
        """The place of a node's stream while the context is open."""
        self._of_node.enter(identity.node)
        try:
            yield
        finally:
            self._of_node.leave(identity.node)

    def hello(self, place: Open, name: str, now: float) -> Refusal | None:
        """Why this name may not introduce itself now; None: it may, and is counted."""
        if self._nodes() and not self._has_node(name):
            place.strange = True
            if not self._strange.take(place.host, now):
                return _refused("strange-hellos", "too many Hellos by names that are no Node of the cluster")
            if self._strangers >= STRANGERS:
                return _refused("strangers", f"{STRANGERS} streams are of names that are no Node of the cluster")
            self._strangers += 1
            place.counted = True
        elif not self._hellos.take(name, now):
            return _refused("hellos", f"more than {HELLOS_AT_ONCE:g} Hellos of this node in a short time")
        return None

    def read_rate(self, place: Open, name: str) -> ReadRate:
        """How fast this node is read, whose Hello was taken; what it said on earlier streams counts. Names that are no
        Node have one rate for each address."""
        key = place.host if place.strange else name
        rate = self._reads[key] = self._reads.pop(key) if key in self._reads else ReadRate()
        if len(self._reads) > MOST_KEYS:
            del self._reads[next(iter(self._reads))]
        return rate

    def tells(self, name: str, now: float) -> bool:
        """Whether one more Event may be written about this node: only of a Node of the cluster, and few."""
        return self._has_node(name) and self._notices.take(name, now) and self._all_notices.take(now)
