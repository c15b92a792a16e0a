"""A hundred endpoints are replaced one by one while clients connect: no connection fails.

As in a rolling update, the new endpoint is ready when the old one turns terminating; a second later the old one leaves
its slice, and soon its process ends.
"""

from __future__ import annotations

import itertools
import sched
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kernel.load_support import Aim, following, loaded
from tools.lab import manifests
from tools.lab.echo import EchoServers, Server
from tools.lab.fabric import Fabric, Pod

VIPS = {4: "172.30.9.2", 6: "fd00:10:96::92"}
NODE_PORT, PORT = 30092, 8080
ENDPOINTS, PER_SLICE = 100, 10
RATE = 2000.0
FIRST = itertools.cycle((100, 170))  # where the addresses begin: no two samples in a row have the same
GRACE = 1.0  # seconds between terminating and gone
LAST = 0.5  # seconds that it still listens: a SYN that was lost just before comes again after a second


class Backend(NamedTuple):
    """One address pair of a pod that has many."""

    name: str
    node: str
    addresses: dict[int, str]
    servers: list[Server]


class Fleet:
    """The Service and its endpoints: `now` those in the slices, `leaving` the terminating ones, by position."""

    def __init__(self, folder: Path, echo: EchoServers, backends: list[Backend]) -> None:
        self._folder, self._echo = folder, echo
        self.now, self._spare = dict(enumerate(backends[:ENDPOINTS])), backends[ENDPOINTS:]
        self.leaving: dict[int, Backend] = {}

    def open(self) -> None:
        ports = [manifests.port(80, PORT, node_port=NODE_PORT)]
        service = manifests.service("fleet", ports, list(VIPS.values()), kind="NodePort")
        manifests.write(self._folder / "service.yaml", service)
        for first in range(0, ENDPOINTS, PER_SLICE):
            self._write(first)

    def roll(self, pause: float) -> None:
        """One begins after the other, `pause` seconds apart; whatever holds us up, none goes sooner after it began."""
        clock = sched.scheduler()

        def begin(index: int) -> None:
            self._begin(index)
            clock.enter(GRACE, 0, end, (index,))
            if index + 1 < ENDPOINTS:
                clock.enter(pause, 1, begin, (index + 1,))

        def end(index: int) -> None:
            clock.enter(LAST, 0, self._stop, (self._end(index),))

        begin(0)
        clock.run()

    def _begin(self, index: int) -> None:
        """Its successor is ready, and it turns terminating."""
        self.leaving[index], self.now[index] = self.now[index], self._spare[index]
        self._write(index)

    def _end(self, index: int) -> Backend:
        """It leaves the slice."""
        gone = self.leaving.pop(index)
        self._write(index)
        return gone

    def _stop(self, gone: Backend) -> None:
        for server in gone.servers:
            self._echo.stop(server)

    def _write(self, index: int) -> None:
        number = index // PER_SLICE
        inside = range(number * PER_SLICE, (number + 1) * PER_SLICE)
        parts = []
        for family in (4, 6):
            live = [manifests.endpoint(one.addresses[family], one.node) for one in (self.now[i] for i in inside)]
            old = [
                manifests.endpoint(one.addresses[family], one.node, ready=False, serving=True, terminating=True)
                for one in (self.leaving[i] for i in inside if i in self.leaving)
            ]
            ports = [manifests.slice_port(PORT)]
            name = f"fleet-{number}-v{family}"
            parts.append(manifests.endpoint_slice("fleet", live + old, ports, family=family, name=name))
        manifests.write(self._folder / f"slice-{number}.yaml", *parts)


@pytest.fixture
def backends(clean: Fabric, echo: EchoServers) -> Iterator[list[Backend]]:
    """Twice as many as there are endpoints, spread over a pod of each node; names are of their own."""
    pods = [clean.add_pod(node) for node in clean.nodes]
    first = next(FIRST)
    made = [
        _backend(clean, echo, pods[number % len(pods)], first + number // len(pods)) for number in range(2 * ENDPOINTS)
    ]
    yield made
    echo.stop_all()
    for pod in pods:
        clean.remove_pod(pod)


def _backend(fabric: Fabric, echo: EchoServers, pod: Pod, number: int) -> Backend:
    cidrs = fabric.node(pod.node).pod_cidrs
    v4, v6 = (str(ip_network(cidr)[number]) for cidr in cidrs)
    fabric.wiring.configure(pod.space, "eth0", [f"{v4}/32", f"{v6}/128"])
    name = f"{pod.name}/{number}"
    servers = [echo.start(pod.space, address, PORT, "tcp", name) for address in (v4, v6)]
    return Backend(name, pod.node, {4: v4, 6: v6}, servers)


@pytest.fixture
def fleet(clean: Fabric, echo: EchoServers, tmp_path: Path, backends: list[Backend]) -> Iterator[Fleet]:
    with following(clean, tmp_path) as (folder, line):
        fleet = Fleet(folder, echo, backends)
        with line.change():
            fleet.open()
        yield fleet


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "connections, pause",
    [
        pytest.param(20_000, 0.08, id="20,000"),
        pytest.param(200_000, 1.0, id="200,000", marks=pytest.mark.slow),
    ],
)
def test_no_connection_fails_while_all_endpoints_are_replaced(
    clean: Fabric, fleet: Fleet, backends: list[Backend], connections: int, pause: float
) -> None:
    """E14's other half: a terminating endpoint gets no new connection while others are ready."""
    here, there = clean.nodes[:2]
    aims: list[Aim] = [
        (here.clients[0].space, VIPS[4], 80),
        (there.clients[0].space, VIPS[6], 80),
        (clean.outside[0].space, here.address(4), NODE_PORT),
        (clean.outside[1].space, there.address(6), NODE_PORT),
    ]
    with loaded(aims, RATE) as load:
        load.more(2000)
        fleet.roll(pause)
        load.more(max(connections - load.total, 2500), timeout=300)
    assert load.failed == {}
    assert load.total >= connections
    assert load.names <= {one.name for one in backends}
    assert load.names >= {one.name for one in backends[ENDPOINTS:]}
