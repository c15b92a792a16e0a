"""Connections spread evenly over the endpoints of a Service, also after it was scaled.

Counts are held against what chance allows: chi-square for real TCP connections, 3 % of each share for a number of UDP
flows at which that is five standard deviations.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tools.lab import manifests
from tools.lab.client import many
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod
from tools.lab.rules import run

ADDRESS, PORT, COUNTED = "172.30.8.1", 80, 8081
CONNECTIONS = 20_000
FLOWS = 120_000  # the share of one in five has a standard deviation of 2 / sqrt(FLOWS) = 0.58 % of itself
CHI_SQUARE = {4: 46.8, 5: 50.0}  # exceeded less than once in 10^9 times, by number of endpoints
PORTS = [manifests.port(PORT, 8080, "web"), manifests.port(PORT, COUNTED, "flows", "UDP")]
SLICE_PORTS = [manifests.slice_port(8080, "web"), manifests.slice_port(COUNTED, "flows", "UDP")]


class Scaled:
    """The Service in a folder of manifests, and the product following it."""

    def __init__(self, fabric: Fabric, folder: Path, line: Deployment) -> None:
        self.fabric, self.line, self._file = fabric, line, folder / "web.yaml"

    def to(self, count: int) -> Sequence[Pod]:
        """The first so many pods are its endpoints, in every kernel."""
        pods = self.fabric.pods[:count]
        endpoints = [manifests.pod_endpoint(pod) for pod in pods]
        documents = manifests.service("web", PORTS, [ADDRESS]), manifests.endpoint_slice("web", endpoints, SLICE_PORTS)
        with self.line.change():
            manifests.write(self._file, *documents)
        for node in self.fabric.nodes:
            run(node.space, "conntrack", "-F", check=False)  # a flow of before would keep its endpoint
        return pods


@pytest.fixture
def scaled(clean: Fabric, tmp_path: Path) -> Iterator[Scaled]:
    folder = tmp_path / "manifests"
    folder.mkdir()
    manifests.write(folder / "nodes.yaml", *map(manifests.node_object, clean.nodes))
    with Deployment(clean, tmp_path, "--source=manifests", f"--manifests={folder}") as line:
        line.start()
        yield Scaled(clean, folder, line)


def chi_square(found: Counter[str], pods: Sequence[Pod]) -> float:
    expected = sum(found.values()) / len(pods)
    return sum((found[pod.name] - expected) ** 2 / expected for pod in pods)


@pytest.mark.slow
def test_twenty_thousand_connections_spread_as_chance_would_have_it(
    scaled: Scaled, lab: Fabric, echo: EchoServers
) -> None:
    for pod in lab.pods:
        echo.start_pod(pod, protocols=["tcp"])
    for count in (5, 4, 5):
        pods = scaled.to(count)
        found = many(lab.nodes[0].clients[0].space, ADDRESS, PORT, CONNECTIONS)
        assert sum(found.values()) == CONNECTIONS
        assert found.keys() == {pod.name for pod in pods}, found
        assert chi_square(found, pods) < CHI_SQUARE[count], found


class Counters:
    """A socket on each pod that counts the flows that arrive, one datagram each."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        self.found: Counter[str] = Counter()
        self._sockets = [(pod.name, self._listen(pod)) for pod in pods]

    @staticmethod
    def _listen(pod: Pod) -> socket.socket:
        listener = pod.space.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listener.bind((pod.v4, COUNTED))
        return listener

    def drain(self) -> None:
        for name, listener in self._sockets:
            try:
                while True:
                    listener.recv(16)
                    self.found[name] += 1
            except BlockingIOError:
                pass

    def close(self) -> None:
        for _, listener in self._sockets:
            listener.close()


def flows(clients: Sequence[Pod], count: int, counters: Counters) -> None:
    """So many UDP flows, each from an address and port of its own, one datagram each."""
    each = count // len(clients)
    for client in clients:
        with client.space.entered():
            for port in range(12_000, 12_000 + each):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.bind((client.v4, port))
                    sender.sendto(b"?", (ADDRESS, PORT))
                if port % 200 == 0:
                    counters.drain()
        counters.drain()


@pytest.mark.slow
def test_each_share_is_within_three_percent(scaled: Scaled, lab: Fabric) -> None:
    clients = [node.clients[0] for node in lab.nodes]
    for count in (5, 4, 5):
        pods = scaled.to(count)
        counters = Counters(lab.pods)
        flows(clients, FLOWS, counters)
        counters.close()
        assert counters.found.keys() == {pod.name for pod in pods}
        assert sum(counters.found.values()) == FLOWS
        share = FLOWS / count
        assert all(abs(number - share) <= 0.03 * share for number in counters.found.values()), counters.found
