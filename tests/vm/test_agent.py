"""The real programs in the guest: one control plane on manifests, an agent on each node in ipvs mode, real clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.ipvs_support import run, wipe
from tests.vm.services import vip
from tools.lab import manifests
from tools.lab.client import REFUSED, connect, knocking, many, until
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod

pytestmark = pytest.mark.timeout(300)


def put(folder: Path, pods: list[Pod]) -> None:
    """The Service `web` over these pods, in both families."""
    made = manifests.service("web", [manifests.port(80, 8080, "p", node_port=30080)], [vip(4), vip(6)], kind="NodePort")
    aside = folder.parent / "web.new"
    manifests.write(aside, made, *manifests.slices("web", pods, [manifests.slice_port(8080, "p")]))
    aside.rename(folder / "web.yaml")


@pytest.fixture
def line(lab: Fabric, serving: EchoServers, tmp_path: Path) -> Iterator[Deployment]:
    """Control plane and agents, not started, on nodes without anything of any mode; `web` over all pods is there."""
    for node in lab.nodes:
        wipe(node.space)
    folder = tmp_path / "objects"
    folder.mkdir()
    manifests.write(folder / "nodes.yaml", *(manifests.node_object(node) for node in lab.nodes))
    put(folder, lab.pods)
    with Deployment(
        lab, tmp_path, "--source=manifests", f"--manifests={folder}", agent_flags=("--drain-period=0s",)
    ) as made:
        for agent in made.agents.values():
            agent.mode = "ipvs"
        yield made
    for node in lab.nodes:
        wipe(node.space)


def test_a_change_arrives_and_what_others_did_is_put_right(lab: Fabric, line: Deployment, tmp_path: Path) -> None:
    line.start(timeout=90)
    node, client = lab.nodes[0], lab.nodes[0].clients[0].space
    for family in (4, 6):
        assert set(many(client, vip(family), 80, 8)) == {pod.name for pod in lab.pods}
        assert connect(lab.outside[0].space, lab.nodes[1].address(family), 30080).answered
    with line.change(timeout=60):
        put(tmp_path / "objects", lab.pods[:1])
    assert set(many(client, vip(4), 80, 4)) == {lab.pods[0].name}
    run(node.space, "ip", "addr", "del", f"{vip(4)}/32", "dev", "kube-ipvs0")
    until(lambda: vip(4) in run(node.space, "ip", "-4", "addr", "show", "dev", "kube-ipvs0"), 20)
    assert connect(client, vip(4), 80).answered


def test_killed_and_started_again_no_connection_fails(lab: Fabric, line: Deployment) -> None:
    line.start(timeout=90)
    agent = line.agents[lab.nodes[0].name]
    with knocking(lab.nodes[0].clients[0].space, vip(4), 80, pause=0.02) as seen:
        for _ in range(3):
            agent.kill()
            agent.start()
            line.wait_applied(timeout=60)
    assert seen.failures == []


def test_w8_an_external_ip_on_one_node_is_served_by_it_to_everybody(
    lab: Fabric, line: Deployment, tmp_path: Path
) -> None:
    """Every node has the Service, and only one of them the address."""
    here, other = lab.nodes
    ips = [here.address(4), here.address(6)]
    made = manifests.service("web", [manifests.port(8088, 8080, "p")], [vip(4), vip(6)], externalIPs=ips)
    slices = manifests.slices("web", lab.pods, [manifests.slice_port(8080, "p")])
    manifests.write(tmp_path / "objects" / "web.yaml", made, *slices)
    line.start(timeout=90)
    for family in (4, 6):
        for client in (lab.outside[0], here, here.clients[0], other, other.clients[0]):
            assert connect(client.space, here.address(family), 8088).answered
        assert connect(lab.outside[0].space, other.address(family), 8088).kind == REFUSED
