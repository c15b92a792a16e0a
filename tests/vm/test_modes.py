"""Modes that the guest can run, opened as the agent opens them: SCTP through each, userspace as fallback, changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deltaplane.forwarding import FrontendKind, NodeForwarding, ServiceForwarding
from nodeagent import config
from nodeagent.dataplane.api import Dataplane
from nodeagent.dataplane.modes import backend, chosen, open_dataplane
from nodeagent.errors import DataplaneUnavailable
from tests.vm.ipvs_support import answers_ping, run, wipe
from tests.vm.services import addresses, entry, service, vip
from tools.lab.client import connect, many
from tools.lab.echo import EchoServers
from tools.lab.fabric import CLUSTER_CIDRS, Fabric, Node
from tools.lab.rules import hint

BOTH = pytest.mark.parametrize("family", [4, 6])
NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


def settings(mode: str) -> config.AgentSettings:
    """What the agent's command line would say."""
    flags = (
        "--server=127.0.0.1:1",
        "--insecure",
        "--hostname-override=node-1",
        f"--cluster-cidr={','.join(CLUSTER_CIDRS)}",
    )
    return config.parse([*flags, f"--proxy-mode={mode}"])


@contextmanager
def opened(node: Node, mode: str) -> Iterator[Dataplane]:
    """A started dataplane of this mode, whose calls are to be made on the node."""
    wipe(node.space)
    hint(node.space)  # there is no nf_tables here
    with node.space.entered():
        dataplane = open_dataplane(config.in_mode(settings(mode), mode)).dataplane
        dataplane.start()
        try:
            yield dataplane
        finally:
            dataplane.close()
            backend(mode).cleanup()


def web(lab: Fabric, family: int, protocol: str) -> ServiceForwarding:
    number = NUMBERS[protocol]
    return service(
        entry(FrontendKind.CLUSTER_IP, (family, vip(family), number, 80), lab.pods),
        entry(FrontendKind.NODE_PORT, (family, "", number, 30080), lab.pods),
    )


def put(dataplane: Dataplane, services: list[ServiceForwarding], node: NodeForwarding) -> None:
    assert dataplane.apply(services, node, complete=True).failed == ()


@BOTH
@pytest.mark.parametrize("mode", ["iptables", "ipvs"])
def test_sctp_from_a_pod_the_node_and_outside(lab: Fabric, serving: EchoServers, mode: str, family: int) -> None:
    node, names = lab.nodes[0], {pod.name for pod in lab.pods}
    with opened(node, mode) as dataplane:
        put(dataplane, [web(lab, family, "sctp")], addresses(node))
        for space, address, port in (
            (node.clients[0].space, vip(family), 80),
            (node.space, vip(family), 80),
            (lab.outside[0].space, node.address(family), 30080),
        ):
            seen = set(many(space, address, port, 24, "sctp"))
            assert seen <= names, (space, seen)
            assert len(seen) > 1


@BOTH
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_userspace_serves_where_the_kernel_has_no_nftables(
    lab: Fabric, serving: EchoServers, protocol: str, family: int
) -> None:
    """The agent listens, a redirect brings the traffic to it, endpoints answer in turn (W14)."""
    node = lab.nodes[0]
    with opened(node, "userspace") as dataplane:
        put(dataplane, [web(lab, family, protocol)], addresses(node))
        assert set(many(node.clients[0].space, vip(family), 80, 8, protocol)) == {pod.name for pod in lab.pods}
        assert connect(lab.outside[0].space, node.address(family), 30080, protocol).answered


def test_a_mode_this_kernel_lacks_is_not_chosen(lab: Fabric) -> None:
    """There is no nf_tables here: named, it falls back; ipvs is taken where a scheduler asks for it (W12)."""
    hint(lab.nodes[0].space)
    with lab.nodes[0].space.entered():
        with pytest.raises(DataplaneUnavailable):
            backend("nftables").probe()
        assert chosen(settings("ipvs")).mode == "ipvs"
        assert chosen(settings("nftables")).mode != "nftables"


def test_in_iptables_mode_the_address_does_not_answer_ping(lab: Fabric, serving: EchoServers) -> None:
    node = lab.nodes[0]
    with opened(node, "iptables") as dataplane:
        put(dataplane, [web(lab, 4, "tcp")], addresses(node))
        assert not answers_ping(node.clients[0].space, vip(4))


def test_from_iptables_to_ipvs_and_back_nothing_is_left(lab: Fabric, serving: EchoServers) -> None:
    """The new mode's rules are in before the old one's go; then the kernel is as after a fresh start (W13)."""
    node, client = lab.nodes[0], lab.nodes[0].clients[0].space
    services = [web(lab, 4, "tcp")]
    fresh = {mode: listed_after(node, mode, services) for mode in ("iptables", "ipvs")}
    with opened(node, "iptables") as before:
        put(before, services, addresses(node))
        for mode, other in (("ipvs", "iptables"), ("iptables", "ipvs")):
            dataplane = open_dataplane(config.in_mode(settings(mode), mode)).dataplane
            dataplane.start()
            put(dataplane, services, addresses(node))
            assert connect(client, vip(4), 80).answered
            backend(other).cleanup(mode)
            assert connect(client, vip(4), 80).answered
            assert listed(node) == fresh[mode]
            dataplane.close()


def listed_after(node: Node, mode: str, services: list[ServiceForwarding]) -> list[str]:
    with opened(node, mode) as dataplane:
        put(dataplane, services, addresses(node))
        return listed(node)


def listed(node: Node) -> list[str]:
    """Rules, sets and virtual servers as the stock tools list them, in any order; not what is the kubelet's too."""
    texts = [run(node.space, *tool) for tool in (["iptables-save"], ["ipset", "save"], ["ipvsadm", "-Sn"])]
    lines = (line.partition(" [")[0].partition(" initval ")[0] for text in texts for line in text.splitlines())
    return sorted(line for line in lines if not line.startswith("#") and "KUBE-FIREWALL" not in line)
