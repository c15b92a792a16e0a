"""External addresses that are a node's own, in ipvs mode: this node's are served here, another node's lead there."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import FrontendKind
from tests.unit.nodeagent.dataplane.ipvs.cases import packed
from tests.vm.ipvs_support import answers_ping, dataplane, run, wipe
from tests.vm.services import addresses, entry, local, service
from tools.lab.client import connect
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node


@pytest.fixture(autouse=True)
def _answers(serving: EchoServers) -> None:
    """Every server pod answers on 8080."""


def others(lab: Fabric, node: Node) -> list[bytes]:
    """The addresses that the other Nodes have."""
    return [packed(each.address(family)) for each in lab.nodes if each is not node for family in (4, 6)]


BOTH = pytest.mark.parametrize("family", [4, 6])
KINDS = pytest.mark.parametrize("kind", [FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER])


@BOTH
@KINDS
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_an_external_address_that_is_a_nodes_own_is_served_by_that_node_to_everybody(
    lab: Fabric, node: Node, family: int, kind: FrontendKind, policy: str
) -> None:
    """Every node has the Service; what the endpoints answer must find the way to the node that the address is of."""
    other = lab.nodes[1]
    wipe(other.space)
    own = node.address(family)
    with dataplane(node.space) as here, dataplane(other.space) as there:
        for made, place in ((here, node), (there, other)):
            made.neighbours(others(lab, place), ())
            given = (family, own, 6, 8088)
            web = entry(kind, given, lab.pods) if policy == "Cluster" else local(kind, given, lab.pods, place.servers)
            assert made.apply([service(web)], addresses(place), complete=True).failed == ()
        for space in (lab.outside[0].space, node.clients[0].space, node.space, other.clients[0].space, other.space):
            assert connect(space, own, 8088).answered


@BOTH
def test_another_nodes_other_ports_stay_within_reach(lab: Fabric, node: Node, echo: EchoServers, family: int) -> None:
    """Its kubelet, its API server: also where the Node comes after the Service."""
    other = lab.nodes[1]
    wipe(other.space)
    theirs = other.address(family)
    echo.start(other.space, theirs, 10250, name="kubelet")
    web = service(entry(FrontendKind.EXTERNAL_IP, (family, theirs, 6, 8088), lab.pods))
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        assert theirs in run(node.space, "ip", "addr", "show", "dev", "kube-ipvs0")  # as if it were nobody's
        made.neighbours(others(lab, node), ())
        made.apply([])
        for space in (node.space, node.clients[0].space):
            assert connect(space, theirs, 10250).name == "kubelet"
        assert connect(node.space, theirs, 8088).answered
        assert family == 6 or answers_ping(node.space, theirs)
        made.neighbours((), others(lab, node))
        made.apply([])
        assert theirs in run(node.space, "ip", "addr", "show", "dev", "kube-ipvs0")
