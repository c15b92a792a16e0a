"""What real packets meet: a scenario's endpoints listening, its clients connecting, and what became of it."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from tests.flows.network import BYSTANDER, Network
from tests.flows.scenario import ADDRESSES, DROP, PASS, REACH, REFUSED, End, Flow, Outcome, Scenario, Step, split
from tests.flows.twin import twin
from tests.flows.verdicts import Difference, differs
from tools.lab import client

_MANY = 20  # endpoints in a slice; of longer ones only those listen that a flow names
_SHORT, _LONG = 0.4, 4.0  # seconds to wait where nothing should answer, and where something should
_STICKY_TRIES = 12
_KEPT = 10.0  # seconds in which a client that keeps its port must be as expected
_PAUSE, _PAUSES = 1.5, 30  # of two endpoints, a fair choice takes the same one so often once in 10^9 times
# A refusal or a drop is mostly waiting: a TCP client that is refused over IPv6 before connect() is through learns of
# it with its second SYN.
_pool = ThreadPoolExecutor(12, "clients")
_KINDS = {client.REFUSED: REFUSED, client.TIMEOUT: DROP}


def settle(network: Network, scenario: Scenario) -> None:
    """The node has the scenario's addresses, and the usual ones of either family."""
    network.own(own_addresses(scenario))


def own_addresses(scenario: Scenario) -> tuple[str, ...]:
    """The node's."""
    usual = (*ADDRESSES, *map(twin, ADDRESSES))
    return (*usual, *(address for address in scenario.view.addresses if address not in usual))


def prepare(network: Network, step: Step, family: int) -> None:
    """Endpoints listen, and bystanders wherever a flow goes."""
    for address, port, protocol in _endpoints(step, family):
        network.listen(address, port, protocol)
    for flow in step.flows:
        for end, _ in flow.expected.ends:
            network.listen(*split(end), flow.protocol)
    for flow in step.flows:
        network.stand_by(flow.to, flow.port, flow.protocol)


def _endpoints(step: Step, family: int) -> Iterator[tuple[str, int, str]]:
    for thing in step.apply:
        if (
            thing["kind"] != "EndpointSlice"
            or thing["addressType"] != f"IPv{family}"
            or len(thing["endpoints"]) > _MANY
        ):
            continue
        for endpoint, port in itertools.product(thing["endpoints"], thing.get("ports", ())):
            with contextlib.suppress(ValueError):  # an address that is only nearly one
                yield str(ip_address(endpoint["addresses"][0])), port.get("port", 9), port["protocol"].lower()


class Clients:
    """Those of one scenario, who remember which endpoint they stay with, and which flows they keep."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._kept: dict[str, End] = {}
        self._open: dict[tuple[str, str, int], client.Connection] = {}

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()

    def differences(self, number: int, step: Step) -> list[Difference]:
        """Every flow of the step that is not as it says. SCTP is left out: few kernels have its sockets."""
        flows = [flow for flow in step.flows if flow.protocol != "sctp"]
        for flow in flows:
            self._network.host(flow.source)
        found: list[Difference] = []
        for later in (False, True):
            some = [flow for flow in flows if (flow.again or flow.expires) is later]
            for flow, seen in zip(some, _pool.map(self.observe, some), strict=True):
                found += differs(number, flow, *seen)
        return found

    def observe(self, flow: Flow) -> tuple[Outcome, bool | None]:
        """What becomes of connections, as many as it takes to meet every endpoint; and whether they all met one."""
        if flow.kept:
            return self._ask(flow), None
        if flow.expires:
            return self._outlast(flow)
        kind, seen = _ends(self._network, flow)
        if kind != REACH or not flow.sticky:
            return Outcome(kind, seen), None
        ends = seen | ({self._kept[flow.source]} if flow.again and flow.source in self._kept else set())
        if len(ends) > 1 or not seen <= flow.expected.ends:
            return Outcome(kind, ends), False
        self._kept[flow.source] = next(iter(seen))
        return flow.expected, True

    def _ask(self, flow: Flow) -> Outcome:
        """On one socket, until it is as expected or not within the time a proxy has for it."""
        place = (flow.source, flow.to, flow.port)
        deadline = time.monotonic() + _KEPT
        while True:
            if place not in self._open:
                space = self._network.host(flow.source)
                self._open[place] = client.Connection(space, flow.to, flow.port, flow.protocol, _SHORT)
                answer = self._open[place].open((flow.source, 0))
            else:
                answer = self._open[place].ask()
            kind, end = _read(flow, answer)
            outcome = Outcome(kind, frozenset({end} if end else ()))
            if outcome == flow.expected or time.monotonic() > deadline:
                return outcome
            time.sleep(0.05)

    def _outlast(self, flow: Flow) -> tuple[Outcome, bool | None]:
        """Pauses longer than the affinity lasts, until the client gets another endpoint."""
        before = self._kept[flow.source]
        for _ in range(_PAUSES):
            time.sleep(_PAUSE)
            kind, end = _connect(self._network, flow)
            if end is None or end != before:
                ends = frozenset({before, end} if end else ())
                return (flow.expected if ends <= flow.expected.ends else Outcome(kind, ends)), True
        return Outcome(REACH, frozenset({before})), True


def _ends(network: Network, flow: Flow) -> tuple[str, frozenset[End]]:
    wanted = max(1, len(flow.expected.ends))
    seen: set[End] = set()
    tries = _STICKY_TRIES if flow.sticky else 1 if wanted == 1 else 40 * wanted
    for attempt in range(tries + 2):
        kind, end = _connect(network, flow)
        if end is None:
            return kind, frozenset()
        seen.add(end)
        if not flow.sticky and len(seen) >= wanted > 1 and attempt >= 8 * wanted:
            break
    return REACH, frozenset(seen)


def _connect(network: Network, flow: Flow) -> tuple[str, End | None]:
    patience = _SHORT if flow.expected.kind == DROP else _LONG
    found = client.connect(
        network.host(flow.source), flow.to, flow.port, flow.protocol, timeout=patience, source=(flow.source, 0)
    )
    return _read(flow, found)


def _read(flow: Flow, found: client.Outcome) -> tuple[str, End | None]:
    if not found.answered:
        return _KINDS.get(found.kind, found.kind), None
    if found.name.startswith(BYSTANDER):
        return PASS, None
    return REACH, (found.name, found.seen != flow.source)
