"""The operator's hands and eyes in the stories: Services, slices, and who answers. For end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import tables
from tools.lab import manifests
from tools.lab.client import many, until
from tools.lab.deltaplane import Deployment
from tools.lab.fabric import Fabric, Node, Pod
from tools.lab.manifests import port, slice_port
from tools.lab.netns import Namespace
from tools.lab.rest import Rest
from tools.lab.rules import delete_tables, run

PORTS = [port(80, 8080, "web"), port(80, 8080, "dns", "UDP")]
SLICE_PORTS = [slice_port(8080, "web"), slice_port(8080, "dns", "UDP")]
LIMIT = 40.0  # seconds: generous, for a machine that does other things too
ENOUGH = 200  # of six endpoints, one is missed by chance once in 10^15 times


@contextmanager
def deployed(fabric: Fabric, folder: Path, *source: str, agent_flags: Sequence[str] = ()) -> Iterator[Deployment]:
    """The product, started: a control plane and an agent per node. Kernels are clean before and after."""
    spaces = [node.space for node in fabric.nodes]
    delete_tables(spaces)
    with Deployment(fabric, folder, *source, agent_flags=agent_flags) as deployment:
        deployment.start()
        yield deployment
    delete_tables(spaces)


@dataclass(frozen=True)
class Shop:
    """The operator's hands (`rest`) and the network they look at."""

    rest: Rest
    line: Deployment
    fabric: Fabric

    def open(self, name: str = "my-service", **spec: Any) -> list[str]:
        """Makes a Service for both families; returns its two addresses."""
        spec = {"ipFamilyPolicy": "RequireDualStack", "ports": PORTS, **spec}
        return list(self.rest.apply(manifests.service(name, **spec))["spec"]["clusterIPs"])

    def endpoints(self, pods: Sequence[Pod], name: str = "my-service", **more: Any) -> None:
        """The slices of the Service say these pods."""
        for part in manifests.slices(name, pods, SLICE_PORTS, **more):
            self.rest.apply(part)

    def settle(self) -> None:
        """Until what nft reads on every node is what the API says."""
        for node in self.fabric.nodes:
            until(lambda: self._is_settled(node), LIMIT, what=lambda: self._differs(node))  # noqa: B023

    def _is_settled(self, node: Node) -> bool:
        """What does not hold together is on its way, as long as it does not stay."""
        with suppress(AssertionError):
            return self.wanted(node) == tables.read(node.space)
        return False

    def sell(self) -> list[str]:
        """Makes a Service with all pods as its endpoints, and waits for every node; returns its two addresses."""
        addresses = self.open()
        self.endpoints(self.fabric.pods)
        self.settle()
        return addresses

    def forget_flows(self) -> None:
        """Tracked UDP flows keep the endpoint they have, and a client may use a source port again."""
        for node in self.fabric.nodes:
            run(node.space, "conntrack", "-D", "-p", "udp", check=False)
            run(node.space, "conntrack", "-D", "-f", "ipv6", "-p", "udp", check=False)

    def wanted(self, node: Node) -> tables.Tables:
        return tables.wanted(*tables.objects_of(self.rest), node)

    def _differs(self, node: Node) -> str:
        return f"{node.name} has\n{tables.read(node.space)}\nwanted\n{self.wanted(node)}\n{self.line.complaints()}"

    @property
    def clients(self) -> dict[str, Namespace]:
        """A pod and the host of a node, and a client outside (for node ports)."""
        node = self.fabric.nodes[0]
        return {"pod": node.clients[0].space, "node": node.space, "outside": self.fabric.outside[0].space}


def names(pods: Sequence[Pod]) -> set[str]:
    return {pod.name for pod in pods}


def reached(space: Namespace, address: str, number: int, protocol: str, count: int = ENOUGH) -> set[str]:
    """Who answered, or how it failed."""
    return set(many(space, address, number, count, protocol))


def until_reached(space: Namespace, address: str, number: int, protocol: str, pods: Sequence[Pod]) -> None:
    """Until exactly these pods answer (their change is still on its way)."""
    until(lambda: reached(space, address, number, protocol) == names(pods), LIMIT, what=f"{address} at {names(pods)}")
