"""Clients of one Service, changes of others, and endpoints that come and go: threads that go on until they are told.

Whatever a thread meets that it must not ends it, and is raised where `Thread.end` is called.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e import tables
from tools.lab import manifests
from tools.lab.client import REFUSED, RESET, TIMEOUT, UNREACHABLE, many
from tools.lab.fabric import Node, Pod
from tools.lab.manifests import endpoint, endpoint_slice, port, slice_port
from tools.lab.netns import Namespace
from tools.lab.rest import Refused, Rest

PATIENCE = 120.0  # seconds for an endpoint's way into every kernel, while most replicas are away


@contextmanager
def thread(body: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs `body` meanwhile; it ends when its event is set. Its failure is raised at the end."""
    over, failures = threading.Event(), []

    def run() -> None:
        try:
            body(over)
        except Exception as failure:  # noqa: BLE001 - raised below, whatever it is
            failures.append(failure)

    made = threading.Thread(target=run, daemon=True)
    made.start()
    try:
        yield
    finally:
        over.set()
        made.join()
    if failures:
        raise failures[0]


@dataclass
class Clients:
    """New connections from one namespace, so many a second. `of`: (begun, ended) of those that `notes` answered."""

    space: Namespace
    address: str
    rate: float
    notes: frozenset[str]
    answers: Counter[str] = field(default_factory=Counter)
    of: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    longest: float = 0.0

    @property
    def total(self) -> int:
        return self.answers.total()

    @property
    def failed(self) -> int:
        return sum(self.answers[how] for how in (REFUSED, RESET, TIMEOUT, UNREACHABLE))

    def run(self, over: threading.Event) -> None:
        due = time.monotonic()
        while not over.is_set():
            due = max(due, time.monotonic() - 1.0) + 1.0 / self.rate
            self._one()
            time.sleep(max(0.0, due - time.monotonic()))

    def _one(self) -> None:
        began = time.monotonic()
        (name,) = many(self.space, self.address, 80, 1)
        ended = time.monotonic()
        self.answers[name] += 1
        self.longest = max(self.longest, ended - began)
        if name in self.notes:
            self.of.setdefault(name, []).append((began, ended))


@dataclass
class Flow:
    """Changes of slices of Services `other-N`, so many a second in all; of what the API server took."""

    rest: Rest
    services: Sequence[int]
    rate: float
    made: int = 0

    def prepare(self) -> None:
        for number in self.services:
            self.rest.apply(manifests.service(f"other-{number}", [port(80)]))
            self.rest.apply(self._slice(number, 0))

    @staticmethod
    def _slice(number: int, turn: int) -> manifests.Object:
        addresses = [f"10.180.{200 + number % 50}.{1 + (turn + step) % 250}" for step in (0, 7)]
        return endpoint_slice(f"other-{number}", map(endpoint, addresses), [slice_port(80)])

    def run(self, over: threading.Event) -> None:
        due = time.monotonic()
        for turn, number in ((turn, number) for turn in itertools.count(1) for number in self.services):
            if over.is_set():
                return
            due = max(due, time.monotonic() - 1.0) + 1.0 / self.rate
            while not self._put(number, turn) and not over.wait(0.2):
                pass
            time.sleep(max(0.0, due - time.monotonic()))

    def _put(self, number: int, turn: int) -> bool:
        """Whether the API server took it."""
        try:
            self.rest.replace(self._slice(number, turn))
        except (OSError, Refused):
            return False
        self.made += 1
        return True


@dataclass
class Moving:
    """Endpoints of a Service that leave and come back. `gone`: (pod, since, until) while no kernel has it."""

    rest: Rest
    nodes: Sequence[Node]
    address: str
    staying: Sequence[Pod]
    leaving: Sequence[Pod]
    gone: list[tuple[str, float, float]] = field(default_factory=list)
    took: list[float] = field(default_factory=list)  # seconds until every kernel had a change

    def run(self, over: threading.Event) -> None:
        for number in itertools.count():
            one = self.leaving[number % len(self.leaving)]
            if not self._change([pod for pod in self.leaving if pod != one], over):
                return
            since = time.monotonic()
            over.wait(1.0)
            until = time.monotonic()
            self.gone.append((one.name, since, until))
            if not self._change(self.leaving, over):
                return

    def _change(self, also: Sequence[Pod], over: threading.Event) -> bool:
        """Returns when every kernel has these endpoints; False: it is over."""
        pods, began = [*self.staying, *also], time.monotonic()
        while not self._put(pods):
            if over.wait(0.2):
                return False
        wanted = {pod.v4 for pod in pods}
        while not all(endpoints(node.space, self.address) == wanted for node in self.nodes):
            assert time.monotonic() < began + PATIENCE, f"not in every kernel: {wanted}"
            if over.wait(0.1):
                return False
        self.took.append(time.monotonic() - began)
        return True

    def _put(self, pods: Sequence[Pod]) -> bool:
        try:
            for part in manifests.slices("asked", pods, [slice_port(8080)]):
                self.rest.apply(part)
        except (OSError, Refused):
            return False
        return True


def endpoints(space: Namespace, address: str) -> set[str]:
    """Those of an address, as nft reads them from the kernel; none where it changed while it was read."""
    try:
        return {ip for ip, _ in tables.read(space).endpoints.get((4, address, "tcp", 80), ())}
    except (RuntimeError, AssertionError):
        return set()
