"""SCTP, TCP and UDP through iptables mode, in both families: only the guest's kernel has SCTP."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import FrontendKind
from nodeagent.dataplane.iptables.kinds import required
from nodeagent.dataplane.outcome import Commit
from nodeagent.linux.iptables.flavour import detect
from nodeagent.linux.iptables.trial import probe
from tests.kernel.iptables_support import dataplane
from tests.kernel.nftables_support import node_addresses
from tests.vm.services import entry, service, vip
from tools.lab.client import connect, many
from tools.lab.fabric import Fabric, Node

BOTH = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize(("protocol", "number"), [("tcp", 6), ("udp", 17), ("sctp", 132)])


@BOTH
@PROTOCOLS
@pytest.mark.usefixtures("serving")
def test_who_answers_and_whom_the_pods_see(lab: Fabric, node: Node, family: int, protocol: str, number: int) -> None:
    pods, client, outside = lab.pods, node.clients[0], lab.outside[0]
    web = service(
        entry(FrontendKind.CLUSTER_IP, (family, vip(family), number, 80), pods),
        entry(FrontendKind.NODE_PORT, (family, "", number, 30080), pods),
    )
    names = {pod.name for pod in pods}
    with node.space.entered():
        flavour = detect()
        probe(required(4), flavour)
    with dataplane(node.space, flavour) as made:
        assert made.apply([web], node_addresses(node), complete=True).failed == ()
        assert set(many(client.space, vip(family), 80, 120, protocol)) == names
        assert set(many(node.space, vip(family), 80, 120, protocol)) == names
        assert set(many(outside.space, node.address(family), 30080, 120, protocol)) == names
        assert connect(client.space, vip(family), 80, protocol).seen == client.address(family)
        assert connect(client.space, node.address(family), 30080, protocol).answered
        with dataplane(node.space, flavour) as again:
            assert again.apply([web], node_addresses(node), complete=True) == Commit()
