"""What goes along with a commit besides the kernel's tables: tracked flows, health check ports, health and metrics.

Called by the agent around each `Dataplane.apply`, always on the event loop's thread (`at_home`); `nodeagent.app` says
which hooks there are. A hook never fails a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import Kind, ObjectKey
from deltaplane.model import Protocol as Protocols
from nodeagent.conntrack.cleaner import Cleaner
from nodeagent.conntrack.places import place_of
from nodeagent.dataplane.api import Dataplane, Remembering
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.metrics.registry import Metrics
from nodeagent.web.health import Health
from nodeagent.web.nodeports import Addresses, HealthCheckNodePorts


class Wanted(NamedTuple):
    """The arguments of a `Dataplane.apply`, or a portion of them.

    `names`: with `complete`, all Services there are, where portions with some of them came before.
    """

    services: Sequence[ServiceForwarding] = ()
    node: NodeForwarding | None = None
    complete: bool = False
    names: Collection[ObjectKey] | None = None


class CommitHook(Protocol):
    """Told of every commit, before and after. Derive from it to say nothing where there is nothing to say."""

    def want(self, wanted: Wanted) -> None:
        """What the next `Dataplane.apply` is given, which may still fail; many Services come in portions."""

    def committed(self, done: Commit, seconds: float) -> None:
        """The kernel has all that was wanted since, except of `done.failed`."""

    def refused(self) -> None:
        """The kernel took nothing; what was wanted stays wanted."""
        return

    def failures(self) -> tuple[Failed, ...]:
        """Objects this hook cannot serve, for the next Ack."""
        return ()


class Flows(CommitHook):
    """Tracked UDP flows leave endpoints that no longer serve, and attempts to connect find a new Service (J1-J5)."""

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner

    def adopt(self, dataplane: Dataplane) -> None:
        """What the kernel has from before the start, which may be of Services that were deleted meanwhile."""
        if isinstance(dataplane, Remembering):
            held = (each for each in dataplane.held() if each.protocol == Protocols.UDP)
            self._cleaner.adopt(place_of(each.family, each.address, each.port) for each in held)

    def want(self, wanted: Wanted) -> None:
        self._cleaner.want(wanted.services, wanted.node, complete=wanted.complete, names=wanted.names)

    def committed(self, done: Commit, seconds: float) -> None:
        self._cleaner.commit({item.key for item in done.failed})


class HealthChecks(CommitHook):
    """Health check node ports say what the kernel has (K1)."""

    def __init__(self, ports: HealthCheckNodePorts) -> None:
        self._ports = ports
        self._waiting: list[tuple[Sequence[ServiceForwarding], Collection[ObjectKey] | None]] = []
        self._node: NodeForwarding | None = None

    def want(self, wanted: Wanted) -> None:
        services, node, complete, names = wanted
        if complete and names is None:
            self._waiting.clear()
            names = frozenset(service.key for service in services)
        if services or complete:
            self._waiting.append((services, names))
        self._node = node or self._node

    def committed(self, done: Commit, seconds: float) -> None:
        waiting, self._waiting = self._waiting, []
        for services, names in waiting:
            self._ports.update(services, names)
        if self._node is not None:
            self._ports.move(addresses_of(self._node))
            self._node = None

    def failures(self) -> tuple[Failed, ...]:
        return self._ports.failures()


def addresses_of(node: NodeForwarding) -> Addresses:
    """Where health check node ports listen: where node ports answer."""
    families: dict[int, tuple[bytes, ...] | None] = {4: (), 6: ()}
    for family, width in ((4, 4), (6, 16)):
        listed = tuple(address for address in node.node_port_addresses if len(address) == width)
        families[family] = None if family in node.match_all_families else listed
    return families


def _only_objects(done: Commit) -> bool:
    """What is missing are objects that the kernel refuses one by one: theirs is the failure, and not the node's."""
    return bool(done.failed) and all(item.key.kind != Kind.NODE for item in done.failed)


class Watchers(CommitHook):
    """Health and metrics: whether changes get through, how many, and how long they take (K2, 5.3)."""

    def __init__(self, health: Health, metrics: Metrics, pending: Callable[[], bool]) -> None:
        self._health = health
        self._metrics = metrics
        self._pending = pending
        self._complete = False

    def want(self, wanted: Wanted) -> None:
        self._complete = wanted.complete
        self._health.queued()
        self._metrics.resolved(wanted.services)

    def committed(self, done: Commit, seconds: float) -> None:
        self._metrics.count_commit(done, seconds, complete=self._complete)
        if not self._pending() or _only_objects(done):
            self._health.updated()

    def refused(self) -> None:
        self._metrics.refused()


class Told(CommitHook):
    """Tells somebody that the kernel has another state, and no more."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def want(self, wanted: Wanted) -> None:
        """Nothing is wanted of the kernel here."""

    def committed(self, done: Commit, seconds: float) -> None:
        self._tell()
