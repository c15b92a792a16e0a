"""A UDP client that keeps its source port, with the whole product between the manifests and the packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kernel.load_support import following
from tests.kernel.test_conntrack_flows import entries_of
from tools.lab import manifests
from tools.lab.client import REFUSED, Connection, until
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers, Server
from tools.lab.fabric import Fabric, Pod
from tools.lab.rules import delete_tables, run

VIPS = {4: "172.30.9.53", 6: "fd00:10:96::953"}
NODE_PORT = 30095
LIMIT = 20.0  # seconds that a machine with other work may take; what it takes is measured in bench/
BOTH = pytest.mark.parametrize("family", [4, 6])


class Dns:
    """The Service in a file, and the echo servers of its pods."""

    def __init__(self, fabric: Fabric, folder: Path, line: Deployment, echo: EchoServers) -> None:
        self.fabric, self.line, self._folder, self._echo = fabric, line, folder, echo
        self._servers: dict[str, list[Server]] = {}

    def open(self, pods: Sequence[Pod]) -> None:
        ports = [manifests.port(53, 8080, "dns", "UDP", NODE_PORT)]
        with self.line.change():
            manifests.write(
                self._folder / "service.yaml", manifests.service("dns", ports, list(VIPS.values()), kind="NodePort")
            )
            self.say(pods)

    def say(self, pods: Sequence[Pod]) -> None:
        """The slices say these pods; does not wait."""
        ports = [manifests.slice_port(8080, "dns", "UDP")]
        manifests.write(self._folder / "slices.yaml", *manifests.slices("dns", pods, ports))

    def forget(self) -> None:
        """The Service and its slices are deleted; does not wait."""
        for path in self._files():
            path.unlink()

    def _files(self) -> list[Path]:
        return [path for name in ("service.yaml", "slices.yaml") if (path := self._folder / name).exists()]

    def close(self) -> None:
        """As it was before: no Service, no flows."""
        self.line.wait_applied(timeout=60)
        if self._files():
            with self.line.change():
                self.forget()
        for node in self.fabric.nodes:
            run(node.space, "conntrack", "-F", check=False)

    def flow(self, family: int, kind: str) -> Connection:
        node = self.fabric.nodes[0]
        if kind == "cluster IP":
            return Connection(node.clients[0].space, VIPS[family], 53, "udp", timeout=0.2)
        return Connection(self.fabric.outside[0].space, node.address(family), NODE_PORT, "udp", timeout=0.2)


@pytest.fixture(scope="module")
def product(lab: Fabric, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Deployment]]:
    """One for all of them; each makes its Service and deletes it."""
    delete_tables(node.space for node in lab.nodes)
    with following(lab, tmp_path_factory.mktemp("udp")) as running:
        yield running
    delete_tables(node.space for node in lab.nodes)


@pytest.fixture
def dns(lab: Fabric, echo: EchoServers, product: tuple[Path, Deployment]) -> Iterator[Dns]:
    for pod in lab.pods:
        echo.start_pod(pod, protocols=["udp"])
    made = Dns(lab, *product, echo)
    yield made
    made.close()


@BOTH
@pytest.mark.parametrize("kind", ["cluster IP", "node port"])
def test_a_client_that_keeps_its_port_follows(dns: Dns, echo: EchoServers, family: int, kind: str) -> None:
    """Moves when its endpoint goes (J2), is refused when there is none (J3), and comes back."""
    first, second = dns.fabric.pods[0], dns.fabric.pods[2]
    dns.open([first, second])
    with dns.flow(family, kind) as flow:
        old = flow.open().name
        assert old in (first.name, second.name)
        gone, left = (first, second) if old == first.name else (second, first)
        port = flow.local_port
        echo.stop_pod(gone)  # its process is gone too, so that an answer can only come from the other
        dns.say([left])
        until(lambda: flow.ask().name == left.name, LIMIT, what="the new endpoint")
        dns.say([])
        until(lambda: flow.ask().kind == REFUSED, LIMIT, what="a refusal")
        dns.say([left])
        until(lambda: flow.ask().name == left.name, LIMIT, what="the endpoint that came back")
        assert flow.local_port == port


@BOTH
def test_flows_to_the_same_port_numbers_elsewhere_stay(dns: Dns, echo: EchoServers, family: int) -> None:
    """J4: machines that serve on the Service's port and on its node port, behind this node, and their clients."""
    node, first, second = dns.fabric.nodes[0], dns.fabric.pods[0], dns.fabric.pods[2]
    other = node.servers[1]
    numbers = (53, NODE_PORT)
    for number in numbers:
        echo.start_pod(other, number, ["udp"])
    dns.open([first])
    client = node.clients[0].space
    with (
        Connection(client, other.address(family), numbers[0], "udp") as beside,
        Connection(client, other.address(family), numbers[1], "udp") as further,
        dns.flow(family, "node port") as flow,
    ):
        assert {beside.open().name, further.open().name} == {other.name}
        assert flow.open().name == first.name
        before = [entries_of(node, one) for one in (beside, further)]
        assert all(before)
        for pods, expected in (([second], second.name), ([], ""), ([first], first.name)):
            dns.say(pods)
            until(lambda: flow.ask().name == expected, LIMIT, what=f"{expected!r}")  # noqa: B023
        assert [entries_of(node, one) for one in (beside, further)] == before
        assert {beside.ask().name, further.ask().name} == {other.name}


@BOTH
@pytest.mark.parametrize("kind", ["cluster IP", "node port"])
def test_flows_of_a_service_that_was_deleted_while_the_agent_was_down_go_at_its_start(
    dns: Dns, family: int, kind: str
) -> None:
    """J3: the kernel still had it, and nobody has it any more."""
    pod, node = dns.fabric.pods[0], dns.fabric.nodes[0]
    agent = dns.line.agents[node.name]
    dns.open([pod])
    with dns.flow(family, kind) as flow:
        assert flow.open().name == pod.name
        assert entries_of(node, flow)
        agent.stop()
        dns.forget()
        assert entries_of(node, flow)
        agent.start()
        until(lambda: not entries_of(node, flow), 20.0, what="the flow's entry to go")
