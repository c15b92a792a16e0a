"""Both sessions joined without a network: a link that can drop, repeat, swap, hold back and cut, on its own clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from controlplane.facts import Fact
from controlplane.inflight import Applied
from controlplane.log import Log
from controlplane.nodes import Nodes
from controlplane.session import Limits
from controlplane.session import Session as Stream
from controlplane.snapshot import Snapshots
from controlplane.store import Change, Store
from controlplane.stream_events import Event
from deltaplane.model import EndpointSlice, Object, ObjectKey, Service
from deltaplane.snapshot import ON_REQUEST, PARTIAL
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.events import Changed, Record, Report, Send
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.session import Session as Agent

View = dict[tuple[str, str], tuple[Service | None, tuple[EndpointSlice, ...]]]
_epochs = iter(range(1, 1 << 62))


class Noted(Stream):
    """A stream whose nodes hear what happens on it, as the server tells them."""

    def __init__(self, nodes: Nodes, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._nodes = nodes

    def on_message(self, request: pb.WatchRequest, now: float) -> list[Event]:
        return self._note(super().on_message(request, now))

    def next_message(self, now: float, unix_nano: int = 0) -> bytes | None:
        message = super().next_message(now, unix_nano)
        self._note(self.happened())
        return message

    def _note(self, happened: list[Event]) -> list[Event]:
        for one in happened:
            self._nodes.note(self, one)
        return happened


class Replica:
    """A control plane without its edges. A new one starts with the same truth, in a new epoch."""

    def __init__(self, truth: Iterable[Object] = (), limits: Limits | None = None, **ring: float) -> None:
        self.store = Store()
        self.log = Log(next(_epochs).to_bytes(16, "big"), **ring)  # type: ignore[arg-type]
        self.snapshots = Snapshots(self.store, self.log)
        self.nodes = Nodes()
        self.cluster = ""  # what it says it serves
        self.limits = limits or Limits()
        self.digests: dict[tuple[bytes, int], int] = {}
        self._early: list[Change] = []
        self.store.update([Fact(object_.key, object_) for object_ in truth])
        self.log.begin(self.store.digest.value)
        self._note()

    def _note(self) -> None:
        self.digests[self.log.epoch, self.log.head] = self.store.digest.value

    def early(self, *facts: Fact) -> None:
        """Takes facts whose batch is still open."""
        self._early += self.store.update(facts)

    def put(self, *facts: Fact, now: float = 0.0) -> None:
        """Takes facts and closes the batch."""
        changes, self._early = [*self._early, *self.store.update(facts)], []
        self.log.append(
            changes, digest=self.store.digest.value, versions=self.store.versions, now=now, unix_nano=int(now * 1e9)
        )
        self._note()

    def stream(self) -> Stream:
        shared = (self.store, self.log, self.snapshots)
        return Noted(self.nodes, *shared, cluster_id=lambda: self.cluster, limits=self.limits)

    def objects(self) -> dict[ObjectKey, Object]:
        return {object_.key: object_ for object_ in self.store.objects()}


class Node:
    """An agent without its edges. Its kernel is a table that only `Changed` may alter."""

    def __init__(
        self,
        journal: list[bytes] | None = None,
        kernel: View | None = None,
        capabilities: Sequence[str] = (PARTIAL, ON_REQUEST),
    ) -> None:
        self.agent = Agent(pb.Hello(node_name="n1", agent_version="test", capabilities=capabilities), Mirror())
        self.journal = journal if journal is not None else []
        self.kernel: View = kernel if kernel is not None else {}
        self.reports: list[Report] = []
        self.changes: list[Changed] = []
        self.busy = False
        self._waiting: list[int] = []
        restored = self.agent.restore(list(self.journal), 0.0)
        if restored is not None:
            self.program(restored)
            self.agent.applied(restored.rev, 0.0)

    def take(self, data: bytes, now: float) -> list[bytes]:
        out = []
        for event in self.agent.received(data, now):
            match event:
                case Send(message):
                    out.append(message)
                case Changed():
                    self.program(event)
                    self._waiting.append(event.rev)
                case Record(messages, whole):
                    if whole:
                        self.journal.clear()
                    self.journal += messages
                case Report():
                    self.reports.append(event)
        return out + self.commit(now)

    def program(self, event: Changed) -> None:
        self.changes.append(event)
        mirror = self.agent.mirror
        if event.complete:
            gone = set(self.kernel) - set(mirror.services)
            assert len(self.changes) == 1 or gone <= event.touched.services
            for name in gone:
                del self.kernel[name]
        for name in event.touched.services:
            service = mirror.services.get(name)
            if service is None:
                self.kernel.pop(name, None)
            else:
                self.kernel[name] = (service, mirror.slices_of(*name))

    def commit(self, now: float) -> list[bytes]:
        if self.busy or not self._waiting:
            return []
        rev, self._waiting = self._waiting[-1], []
        ack = self.agent.applied(rev, now, report=pb.CommitReport())
        return [] if ack is None else [ack]

    def wanted(self) -> View:
        mirror = self.agent.mirror
        return {name: (service, mirror.slices_of(*name)) for name, service in mirror.services.items()}


class Link:
    """One node's streams to one replica, one after another."""

    def __init__(self, replica: Replica, node: Node) -> None:
        self.replica, self.node, self.now = replica, node, 0.0
        self.stream: Stream | None = None
        self.down: deque[bytes] = deque()
        self.up: deque[bytes] = deque()
        self.applied: list[Applied] = []

    def connect(self) -> None:
        self.cut()
        self.stream = self.replica.stream()
        self.up.append(self.node.agent.connected(self.now))

    def cut(self) -> None:
        self.stream = None
        self.down.clear()
        self.up.clear()
        self.node.agent.disconnected()

    def pull(self) -> None:
        """The server writes whatever it has for this stream."""
        while self.stream is not None and (message := self.stream.next_message(self.now)) is not None:
            self.down.append(message)

    def deliver_up(self) -> None:
        if self.up and self.stream is not None:
            request = pb.WatchRequest.FromString(self.up.popleft())
            happened = self.stream.on_message(request, self.now)
            self.applied += [one for one in happened if isinstance(one, Applied)]

    def deliver_down(self) -> None:
        if not self.down:
            return
        self.up += self.node.take(self.down.popleft(), self.now)
        known = self.replica.digests.get((self.node.agent.cursor.epoch, self.node.agent.rev))
        if known is not None:
            assert known == self.node.agent.mirror.digest.value, "not what the replica had at this revision"

    def step(self, seconds: float = 0.0) -> None:
        """Everything under way arrives; nothing is lost."""
        self.now += seconds
        self.up += self.node.agent.tick(self.now)
        self.up += self.node.commit(self.now)
        self.pull()
        while self.up or self.down:
            while self.up and self.stream is not None:
                self.deliver_up()
            if self.stream is None:
                self.up.clear()
            self.pull()
            while self.down:
                self.deliver_down()
        if self.stream is None or self.stream.closed or self.node.agent.lost(self.now):
            self.connect()

    def settle(self, seconds: int = 240) -> None:
        """Lets faultless time pass: long enough for every time limit there is."""
        self.node.busy = False
        for _ in range(seconds):
            self.step(1.0)

    def assert_same(self) -> None:
        mirror = self.node.agent.mirror
        assert {object_.key: object_ for object_ in mirror.objects()} == self.replica.objects()
        assert mirror.digest.value == self.replica.store.digest.value
        assert mirror.digest.leaves == self.replica.store.digest.leaves
        assert self.node.kernel == self.node.wanted()
        assert self.stream is not None
        assert self.stream.applied_rev == self.replica.log.head == self.node.agent.rev
