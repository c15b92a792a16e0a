"""Who answers at a Service's addresses and whom the pods see: the same in every mode that leaves it to the kernel."""

from __future__ import annotations

from tools.lab.client import connect, many
from tools.lab.fabric import Fabric


def assert_everybody_answers(fabric: Fabric, address: str, family: int, protocol: str, count: int = 200) -> None:
    """All pods on port 80 of this ClusterIP and on the first node's port 30080, under Cluster policy."""
    node, outside = fabric.nodes[0], fabric.outside[0]
    client, names = node.clients[0], {pod.name for pod in fabric.pods}
    assert set(many(client.space, address, 80, count, protocol)) == names
    assert set(many(node.space, address, 80, count, protocol)) == names
    assert set(many(outside.space, node.address(family), 30080, count, protocol)) == names
    assert connect(client.space, address, 80, protocol).seen == client.address(family)
    seen = connect(outside.space, node.address(family), 30080, protocol).seen
    assert seen in (node.address(family), node.gateway(family))
    assert connect(client.space, node.address(family), 30080, protocol).answered
