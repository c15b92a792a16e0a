"""Whatever happens to objects, link and processes, in any order: both ends and the kernel end in the same state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controlplane.facts import Fact
from controlplane.session import Limits
from controlplane.store import Store
from deltaplane.model import EndpointSlice
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica

# A small window and a small ring, so that merging, snapshots and stalls happen within a few steps.
LIMITS = Limits(window_deltas=3)
Step = Callable[[Store], Fact]


def _put_service(number: int, version: int) -> Step:
    service = objects.service(number, version)
    return lambda _: Fact(service.key, service)


def _put_slice(number: int, endpoints: dict[int, int], owner: int, port: int) -> Step:
    slice_ = objects.slice_of(number, endpoints, owner, port)
    return lambda _: Fact(slice_.key, slice_)


def _change_endpoint(number: int, last: int, conditions: int | None) -> Step:
    def step(store: Store) -> Fact:
        old = store.get(objects.slice_key(number))
        endpoints = {e.address[3]: e.conditions for e in old.endpoints} if isinstance(old, EndpointSlice) else {}
        endpoints.pop(last, None)
        if conditions is not None:
            endpoints[last] = conditions
        owner = int(old.service[-1]) if isinstance(old, EndpointSlice) else number
        slice_ = objects.slice_of(number, endpoints, owner)
        return Fact(slice_.key, slice_)

    return step


def _put_node(number: int, zone: str) -> Step:
    node = objects.node(number, zone)
    return lambda _: Fact(node.key, node)


numbers = st.integers(0, 2)
addresses = st.dictionaries(st.integers(1, 9), st.sampled_from([0, 3, 4, 6]), max_size=9)
steps = st.one_of(
    st.builds(_put_service, numbers, st.integers(0, 2)),
    st.builds(_put_slice, numbers, addresses, numbers, st.sampled_from([8080, 8081])),
    st.builds(_change_endpoint, numbers, st.integers(1, 9), st.sampled_from([None, 0, 3, 6])),
    st.builds(_change_endpoint, numbers, st.integers(1, 9), st.sampled_from([None, 0, 3, 6])),
    st.builds(_put_node, numbers, st.sampled_from(["", "a"])),
    numbers.map(lambda number: lambda _: Fact(objects.service_key(number), None)),
    numbers.map(lambda number: lambda _: Fact(objects.slice_key(number), None)),
)


class AnyOrder(RuleBasedStateMachine):
    """Steps of either side, faults of the link between."""

    @initialize(ring=st.sampled_from([600, 100_000]))
    def start(self, ring: int) -> None:
        self.ring = ring
        truth = [objects.service(n) for n in range(3)] + [objects.slice_of(n, {1: 3, 2: 3, 3: 3}) for n in range(3)]
        self.link = Link(Replica(truth, limits=LIMITS, max_bytes=ring), Node())
        self.link.connect()
        self.link.step()

    @rule(batches=st.lists(st.lists(steps, min_size=1, max_size=3), min_size=1, max_size=5))
    def objects_change(self, batches: list[list[Step]]) -> None:
        replica = self.link.replica
        for batch in batches:
            for step in batch[:-1]:
                replica.early(step(replica.store))
            replica.put(batch[-1](replica.store), now=self.link.now)

    @rule()
    def everything_arrives(self) -> None:
        self.link.step(0.1)

    @rule(count=st.integers(1, 4))
    def some_arrives(self, count: int) -> None:
        self.link.pull()
        for _ in range(count):
            self.link.deliver_up()
            self.link.deliver_down()

    @rule(seconds=st.sampled_from([0.6, 11.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.link.now += seconds
        self.link.up += self.link.node.agent.tick(self.link.now)

    @rule(up=st.booleans(), kind=st.sampled_from(["drop", "repeat", "swap", "truncate"]), at=st.integers(1, 400))
    def link_errs(self, up: bool, kind: str, at: int) -> None:
        queue: deque[bytes] = self.link.up if up else self.link.down
        if not queue:
            return
        if kind == "drop":
            queue.popleft()
        elif kind == "repeat":
            queue.appendleft(queue[0])
        elif kind == "swap" and len(queue) > 1:
            queue[0], queue[1] = queue[1], queue[0]
        elif kind == "truncate" and not up:
            queue[0] = queue[0][: -(1 + at % len(queue[0]))]

    @rule(busy=st.booleans())
    def kernel_is_busy(self, busy: bool) -> None:
        self.link.node.busy = busy

    @rule(kind=st.sampled_from(["cut", "replica", "agent", "agent without state"]))
    def something_restarts(self, kind: str) -> None:
        link = self.link
        if kind == "cut":
            link.cut()
        elif kind == "replica":
            link.node.agent.disconnected()
            self.link = Link(Replica(list(link.replica.store.objects()), LIMITS, max_bytes=self.ring), link.node)
        else:
            journal = link.node.journal if kind == "agent" else None
            self.link = Link(link.replica, Node(journal, link.node.kernel))
        self.link.now = link.now
        if kind != "cut":
            self.link.connect()

    @invariant()
    def held_only_after_ack_s11(self) -> None:
        link = getattr(self, "link", None)
        if link is not None and link.stream is not None and link.node.agent.cursor.epoch == link.replica.log.epoch:
            assert link.stream.applied_rev <= link.node.agent.rev

    def teardown(self) -> None:
        if hasattr(self, "link"):
            self.link.settle()
            self.link.assert_same()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
