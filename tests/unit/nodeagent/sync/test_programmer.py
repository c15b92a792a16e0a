"""The mirror's state in a kernel: what is committed when, what is retried, and who hears of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from unittest.mock import patch

import pytest

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.frontends import slot
from deltaplane.model import Object, Protocol
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.errors import KernelUnavailable
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.mirror import Touched
from nodeagent.sync.phases import TRANSITIONS, Phase, Step
from nodeagent.sync.programmer import REPAIR_PAUSE, Programmer
from nodeagent.sync.retries import BACKOFF
from tests.sessions import objects

HERE = objects.node(1)
SERVICES = [objects.service(number) for number in (1, 2, 3)]


class Kernel:
    """A dataplane that notes what it is given, and refuses on demand."""

    mode, adopted = "nftables", False

    def __init__(self) -> None:
        self.applied: list[tuple[list[str], bool, bool]] = []  # names, with a node, complete
        self.reason = ""
        self.failed: tuple[Failed, ...] = ()
        self.stays = False  # something is pending
        self.changed = False
        self.closed = False

    def start(self) -> None:
        """It is there."""

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        if self.reason:
            raise KernelUnavailable(self.reason)
        self.applied.append(([service.key.name for service in services], node is not None, complete))
        return Commit(messages=1, elements=2, failed=self.failed)

    def repair(self) -> Commit:
        return self.apply(())

    def pending(self) -> bool:
        return self.stays

    def fileno(self) -> int:
        return -1

    def drifted(self) -> bool:
        return self.changed

    def close(self) -> None:
        self.closed = True


class Hook:
    """A commit hook that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.failed: tuple[Failed, ...] = ()

    def want(self, *_: object, **__: object) -> None:
        self.heard.append("want")

    def committed(self, *_: object) -> None:
        self.heard.append("committed")

    def refused(self) -> None:
        self.heard.append("refused")

    def failures(self) -> tuple[Failed, ...]:
        return self.failed


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return 0

    time_ns = perf_counter_ns


class Node:
    """A programmer on a kernel of its own, whose time the test lets pass."""

    def __init__(self) -> None:
        self.kernel, self.hook, self.clock = Kernel(), Hook(), Clock()
        self.programmer = Programmer(NodeInfo("node-1"), self.kernel, (self.hook,))

    def take(self, *items: Object) -> Touched:
        mirror = self.programmer.mirror
        known = {item.key: item for item in mirror.objects()}
        return mirror.commit(mirror.prepare_replace({**known, **{item.key: item for item in items}}))


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture(autouse=True)
def ticking(node: Node) -> Iterator[None]:
    with patch("nodeagent.sync.programmer.time", node.clock):
        yield


@pytest.fixture
def served(node: Node) -> Node:
    """The whole state is in the kernel."""
    node.take(HERE, *SERVICES)
    assert node.programmer.compare() is not None
    node.kernel.applied.clear()
    node.hook.heard.clear()
    return node


def test_the_first_commit_compares_everything_and_later_ones_write_what_a_change_touched(node: Node) -> None:
    assert (node.programmer.complete, node.programmer.in_step) == (False, False)
    node.take(HERE, *SERVICES)
    node.programmer.compare()
    assert (node.programmer.complete, node.programmer.in_step) == (True, True)

    node.programmer.change(node.take(objects.service(2, 1)))

    assert node.kernel.applied == [(["svc-1", "svc-2", "svc-3"], True, True), (["svc-2"], False, False)]


def test_a_doubt_asks_for_another_comparison_and_the_node_stays_served(served: Node) -> None:
    served.programmer.doubt()
    assert (served.programmer.complete, served.programmer.in_step) == (True, False)
    served.programmer.compare()
    assert served.programmer.in_step


def test_what_the_kernel_refuses_is_retried_later_and_later_until_it_takes_it(served: Node) -> None:
    programmer, now = served.programmer, served.clock.now
    served.kernel.reason = "busy"
    assert programmer.change(served.take(objects.service(2, 1))) is None
    assert served.hook.heard == ["want", "refused"]
    waits = []
    for _ in range(3):
        waits.append(programmer.retry_due(now))
        now = served.clock.now = now + waits[-1]
        assert programmer.retry_due(now) == programmer.pause(now) == 0
        assert programmer.retry(now) is None
    assert waits == [BACKOFF.delay(tries) for tries in range(3)]

    served.kernel.reason = ""
    assert programmer.retry(now) is not None
    assert programmer.retry_due(now) == inf
    assert served.hook.heard[-2:] == ["want", "committed"]


def test_a_comparison_that_was_refused_is_not_retried_as_a_change(node: Node) -> None:
    node.take(HERE, *SERVICES)
    node.kernel.reason = "busy"
    assert node.programmer.compare() is None
    node.kernel.reason = ""

    assert node.programmer.retry(node.clock.now + 1) is None
    assert node.kernel.applied == []
    assert not node.programmer.complete


def test_an_object_that_fails_is_in_the_next_ack_whoever_refused_it(served: Node) -> None:
    keys = [service.key for service in SERVICES]
    served.kernel.failed = (Failed(keys[0], "KERNEL_REJECTED", "no"),)
    served.hook.failed = (Failed(keys[1], "CONFLICT", "in use"),)
    served.kernel.stays = True

    done = served.programmer.change(served.take(objects.service(2, 1)))

    assert done is not None
    assert [failure.key.name for failure in done.failed] == [keys[0].name, keys[1].name]
    assert done.report.kernel_elements == 2
    assert 0 < served.programmer.retry_due(served.clock.now) < inf


def test_what_others_change_is_repaired_at_once_and_then_after_a_pause(served: Node) -> None:
    programmer, now = served.programmer, served.clock.now
    assert programmer.repair_due(now) == inf
    served.kernel.changed = True
    programmer.kernel_changed()
    assert programmer.repair_due(now) == 0
    assert programmer.repair(now) is not None
    assert not programmer.drifted
    programmer.kernel_changed()
    assert programmer.repair_due(now) == REPAIR_PAUSE
    assert served.hook.heard == ["committed"]


def test_before_the_first_whole_state_nothing_is_repaired_reserved_or_moved(node: Node) -> None:
    node.kernel.changed = True
    node.programmer.kernel_changed()
    assert node.programmer.drifted
    assert node.programmer.repair_due(0.0) == node.programmer.node_due(0.0) == inf
    assert node.programmer.reserve("a test", [slot(4, Protocol.TCP, 80)]) is None
    assert node.programmer.addresses_changed() is None
    assert node.kernel.applied == []


def test_a_reserved_address_is_taken_from_the_service_that_has_it(served: Node) -> None:
    (address,) = SERVICES[1].cluster_ips[:1]
    port = SERVICES[1].ports[0]

    done = served.programmer.reserve("a test", [slot(4, Protocol(port.protocol), port.port, address)])

    assert served.kernel.applied == [(["svc-2"], False, False)]
    assert done is not None
    assert [failure.key.name for failure in done.failed] == ["svc-2"]


def test_what_begins_anew_knows_nothing_and_leaves_the_kernel_alone(served: Node) -> None:
    before = served.programmer.mirror
    served.programmer.begin_anew()
    assert served.programmer.mirror is not before
    assert len(served.programmer.mirror) == 0
    assert served.kernel.applied == []


def test_every_phase_has_a_row_for_every_step() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert all(set(row) == set(Step) for row in TRANSITIONS.values())
    assert all(row[Step.COMPARED] is Phase.IN_STEP for row in TRANSITIONS.values())
    assert Phase.IN_STEP not in {row[Step.DOUBT] for row in TRANSITIONS.values()}
    assert all(Phase.ADOPTED not in row.values() for phase, row in TRANSITIONS.items() if phase is not Phase.ADOPTED)


def test_what_a_backend_is_besides_is_looked_at_once_and_not_for_each_message() -> None:
    """A check against a protocol costs as much as the metrics of a change."""
    looked: list[object] = []

    class Looking(type):
        def __instancecheck__(cls, thing: object) -> bool:
            looked.append(thing)
            return True

    class Seen(metaclass=Looking):
        """In place of `Slow`."""

    kernel = Kernel()
    kernel.slow = False  # type: ignore[attr-defined]
    with patch("nodeagent.sync.programmer.Slow", Seen):
        programmer = Programmer(NodeInfo(HERE.key.name), kernel)
        for now in range(10):
            assert not programmer.slow
            assert programmer.rest(now) == 0.0
    assert looked == [kernel]
