"""The Node object goes, comes back and gets other pod CIDRs while the agents run; local traffic is told by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.load_support import following
from tools.lab import manifests
from tools.lab.client import connect
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node
from tools.lab.manifests import Object

VIPS = {4: "172.30.9.3", 6: "fd00:10:96::93"}
OTHER_CIDRS = ["10.199.1.0/24", "fd00:10:199::/64"]


class Nodes:
    """The Node objects in their file, and what the server sees of a client pod on the first node."""

    def __init__(self, fabric: Fabric, folder: Path, line: Deployment) -> None:
        self.fabric, self.line, self._file = fabric, line, folder / "nodes.yaml"
        self.node: Node = fabric.nodes[0]
        self._pids = self._running()

    def say(self, *of_first: Object) -> None:
        """The other nodes' objects stay; the first one's is this, or there is none."""
        others = map(manifests.node_object, self.fabric.nodes[1:])
        with self.line.change():
            manifests.write(self._file, *of_first, *others)

    def own(self, pod_cidrs: list[str] | None = None) -> Object:
        thing = manifests.node_object(self.node)
        if pod_cidrs is not None:
            thing["spec"] = {"podCIDR": pod_cidrs[0], "podCIDRs": pod_cidrs} if pod_cidrs else {}
        return thing

    def seen(self) -> dict[int, str]:
        """By family, the client address that an endpoint on another node sees."""
        client = self.node.clients[0]
        outcomes = {family: connect(client.space, VIPS[family], 80) for family in (4, 6)}
        assert all(outcome.answered for outcome in outcomes.values()), outcomes
        return {family: outcome.seen for family, outcome in outcomes.items()}

    def assert_no_agent_ended(self) -> None:
        assert self._running() == self._pids

    def _running(self) -> dict[str, int]:
        processes = {name: agent.process for name, agent in self.line.agents.items()}
        return {name: process.pid for name, process in processes.items() if process and process.running}


@pytest.fixture
def nodes(clean: Fabric, echo: EchoServers, tmp_path: Path) -> Iterator[Nodes]:
    server = clean.nodes[1].servers[0]
    echo.start_pod(server, protocols=["tcp"])
    with following(clean, tmp_path, "--detect-local-mode=NodeCIDR") as (folder, line):
        with line.change():
            manifests.write(
                folder / "web.yaml",
                manifests.service("web", [manifests.port(80, 8080)], list(VIPS.values())),
                *manifests.slices("web", [server], [manifests.slice_port(8080)]),
            )
        yield Nodes(clean, folder, line)


def test_pod_cidrs_are_followed_and_a_deleted_node_ends_nothing(nodes: Nodes) -> None:
    """L3, I5: a pod of this node keeps its address; one that is not by the CIDRs is masqueraded."""
    client, node = nodes.node.clients[0], nodes.node
    local, foreign = {4: client.v4, 6: client.v6}, {4: node.address(4), 6: node.address(6)}
    assert nodes.seen() == local
    nodes.say(nodes.own(OTHER_CIDRS))
    assert nodes.seen() == foreign
    nodes.say()
    assert nodes.seen() == foreign  # what was known last holds
    nodes.say(nodes.own())
    assert nodes.seen() == local
    nodes.say()
    assert nodes.seen() == local
    nodes.say(nodes.own([]))
    assert nodes.seen() == local
    nodes.assert_no_agent_ended()
