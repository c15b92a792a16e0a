"""Traffic policies switched while clients connect: only allowed endpoints answer, and nobody is turned away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.load_support import Aim, following, loaded
from tools.lab import manifests
from tools.lab.client import many
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod
from tools.lab.netns import Namespace

VIPS = {4: "172.30.9.1", 6: "fd00:10:96::91"}
NODE_PORT = 30091
BALANCERS = {4: "198.18.9.1", 6: "2001:db8:18::91"}
RATE = 800.0
BETWEEN = 300  # connections between two switches
ROUNDS = 4


class Switched:
    """A Service on the pods of two nodes; the pods of the third answer too, but are none of its endpoints."""

    def __init__(self, fabric: Fabric, folder: Path, line: Deployment) -> None:
        self.fabric, self.line, self._file = fabric, line, folder / "web.yaml"
        self.node = fabric.nodes[0]
        self.here = {pod.name for pod in self.node.servers}
        self.members: list[Pod] = [*self.node.servers, *fabric.nodes[1].servers]

    def to(self, **policies: Any) -> None:
        """The policies are these, in every kernel."""
        ports = [manifests.port(80, 8080, node_port=NODE_PORT)]
        service = manifests.service("web", ports, list(VIPS.values()), kind="LoadBalancer", **policies)
        service["status"] = {"loadBalancer": {"ingress": [{"ip": ip} for ip in BALANCERS.values()]}}
        with self.line.change():
            manifests.write(self._file, service, *manifests.slices("web", self.members, [manifests.slice_port(8080)]))

    def answering(self, space: Namespace, address: str, port: int) -> set[str]:
        return set(many(space, address, port, 200))

    @property
    def everybody(self) -> set[str]:
        return {pod.name for pod in self.members}


@pytest.fixture
def switched(clean: Fabric, echo: EchoServers, tmp_path: Path) -> Iterator[Switched]:
    for pod in clean.pods:
        echo.start_pod(pod, protocols=["tcp"])
    for family, length in ((4, 32), (6, 128)):
        clean.route(f"{BALANCERS[family]}/{length}", clean.nodes[0])
    with following(clean, tmp_path) as (folder, line):
        yield Switched(clean, folder, line)


def test_external_policy_switched_live(switched: Switched) -> None:
    """Clients outside reach all endpoints or the local ones (C1), and are never without one."""
    switched.to(externalTrafficPolicy="Cluster")
    first, second = (host.space for host in switched.fabric.outside)
    aims: list[Aim] = [
        (first, switched.node.address(4), NODE_PORT),
        (second, switched.node.address(6), NODE_PORT),
        (first, BALANCERS[4], 80),
        (second, BALANCERS[6], 80),
    ]
    _switch(switched, "externalTrafficPolicy", aims)


def test_internal_policy_switched_live(switched: Switched) -> None:
    """Pods and the node itself reach all endpoints or the local ones, and are never without one."""
    switched.to(internalTrafficPolicy="Cluster")
    spaces = (switched.node.clients[0].space, switched.node.space)
    _switch(switched, "internalTrafficPolicy", [(space, VIPS[family], 80) for space in spaces for family in (4, 6)])


def _switch(switched: Switched, policy: str, aims: list[Aim]) -> None:
    with loaded(aims, RATE) as load:
        load.more(BETWEEN)
        for _ in range(ROUNDS):
            for word, allowed in (("Local", switched.here), ("Cluster", switched.everybody)):
                switched.to(**{policy: word})
                for aim in aims:
                    assert switched.answering(*aim) == allowed, (policy, word, aim)
                load.more(BETWEEN)
    assert load.failed == {}
    assert load.names == switched.everybody
