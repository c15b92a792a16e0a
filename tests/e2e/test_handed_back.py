"""A Node loses the label that the agents' DaemonSet asks for, and its agent ends: a replica says that label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaplane.v1 import inspection_pb2 as pb
from tests.e2e.conftest import Cluster
from tools.lab.client import until
from tools.lab.deltaplane import Agent, ControlPlane
from tools.lab.rules import wipe

KEY, VALUE = "deltaplane.dev/proxy", "deltaplane"
LIMIT = 20.0  # seconds


@pytest.fixture
def plane(cluster: Cluster, tmp_path: Path) -> Iterator[ControlPlane]:
    source = ("--source=kubernetes", f"--kubeconfig={cluster.kubeconfig}", f"--agent-node-selector={KEY}={VALUE}")
    made = ControlPlane(cluster.fabric.controlplane, tmp_path, *source)
    made.start()
    made.wait_ready()
    yield made
    made.stop()


def labelled(cluster: Cluster, name: str, value: str | None) -> None:
    cluster.api.admin.patch("Node", name, {"metadata": {"labels": {KEY: value}}})


def listed(plane: ControlPlane) -> pb.ListNodesResponse:
    found: pb.ListNodesResponse = plane.inspect.ListNodes(pb.ListNodesRequest(), timeout=5)
    return found


def missing(plane: ControlPlane, name: str) -> list[str]:
    return list(plane.nodes()[name].missing_labels)


def test_a_node_that_loses_the_label_says_so_when_its_agent_has_ended(
    cluster: Cluster, plane: ControlPlane, tmp_path: Path
) -> None:
    node, *others = cluster.fabric.nodes
    labelled(cluster, node.name, VALUE)
    agent = Agent(node, plane.address, tmp_path)
    agent.start()
    plane.wait_applied([node.name])
    until(lambda: not missing(plane, node.name), LIMIT, what="the label")
    head = plane.head()
    unlabelled = {each.node_name: list(each.missing_labels) for each in listed(plane).without_labels}

    labelled(cluster, node.name, None)
    until(lambda: missing(plane, node.name), LIMIT, what="the label's absence")
    agent.stop()
    until(lambda: plane.nodes()[node.name].state == pb.NODE_STATE_DISCONNECTED, LIMIT, what="the agent's end")
    after = missing(plane, node.name)
    wipe(node.space)

    assert unlabelled == {each.name: [f"{KEY}={VALUE}"] for each in others}
    assert after == [f"{KEY}={VALUE}"]
    assert plane.head() == head, "a label is no change for agents"
