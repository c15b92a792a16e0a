"""Real packets through ipvs mode: TCP, UDP and SCTP in both families, from pods, from the node and from outside."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Hairpin,
    Masquerade,
    ServiceForwarding,
    Verdict,
)
from nodeagent.dataplane.ipvs.settings import Settings
from tests.kernel.answers import assert_everybody_answers
from tests.kernel.test_invalid_segments import outlives_a_segment_far_ahead
from tests.unit.nodeagent.dataplane.ipvs.cases import packed
from tests.vm.ipvs_support import dataplane, run
from tests.vm.services import addresses, entry, local, service, vip
from tools.lab.client import ANSWER, REFUSED, TIMEOUT, UNREACHABLE, Connection, Outcome, connect, many
from tools.lab.echo import EchoServers
from tools.lab.fabric import CLUSTER_CIDRS, Fabric, Node, Pod

BOTH = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize(("protocol", "number"), [("tcp", 6), ("udp", 17), ("sctp", 132)])
QUICK = 0.4  # seconds until silence counts as a drop


@pytest.fixture(autouse=True)
def _answers(serving: EchoServers) -> None:
    """Every server pod answers on 8080."""


@BOTH
@PROTOCOLS
def test_who_answers_and_whom_the_pods_see(lab: Fabric, node: Node, family: int, protocol: str, number: int) -> None:
    pods = lab.pods
    web = service(
        entry(FrontendKind.CLUSTER_IP, (family, vip(family), number, 80), pods),
        entry(FrontendKind.NODE_PORT, (family, "", number, 30080), pods),
    )
    with dataplane(node.space) as made:
        assert made.apply([web], addresses(node), complete=True).failed == ()
        assert_everybody_answers(lab, vip(family), family, protocol, 12)
        assert connect(node.space, node.address(family), 30080, protocol).answered


@BOTH
@pytest.mark.parametrize(("protocol", "number"), [("tcp", 6), ("udp", 17)])  # an SCTP socket does not listen to ICMP
def test_no_endpoint_and_no_such_port_refuse_at_once_and_come_back(
    lab: Fabric, node: Node, family: int, protocol: str, number: int
) -> None:
    client, pod = node.clients[0], lab.pods[0]

    def web(pods: list[Pod]) -> ServiceForwarding:
        return service(
            entry(FrontendKind.CLUSTER_IP, (family, vip(family), number, 80), pods),
            entry(FrontendKind.NODE_PORT, (family, "", number, 30080), pods),
        )

    refused = {REFUSED, UNREACHABLE}  # a UDP sender on the node may hear of it as another error
    with dataplane(node.space) as made:
        made.apply([web([])], addresses(node), complete=True)
        for space in (client.space, node.space):
            assert connect(space, vip(family), 80, protocol).kind in refused
        assert connect(lab.outside[0].space, node.address(family), 30080, protocol).kind in refused
        made.apply([web([pod])])
        for space in (client.space, node.space):
            assert connect(space, vip(family), 80, protocol).name == pod.name
            assert connect(space, vip(family), 81, protocol).kind in refused
        made.apply([], complete=True)
        assert connect(client.space, vip(family), 80, protocol, timeout=QUICK).kind == TIMEOUT


@BOTH
def test_local_policy_by_where_the_client_is(lab: Fabric, node: Node, family: int) -> None:
    """Outsiders and other nodes' pods reach the endpoints here, unmasqueraded; this node and its pods all (C1, C4)."""
    here, client, outside, other = node.servers, node.clients[0], lab.outside[0], lab.nodes[1].clients[0]
    lb = "198.51.100.77" if family == 4 else "2001:db8:c::77"
    lab.route(lb, node)
    kinds = (
        (FrontendKind.NODE_PORT, "", 30080, node.address(family)),
        (FrontendKind.LOAD_BALANCER, lb, 80, lb),
        (FrontendKind.EXTERNAL_IP, lb, 81, lb),
    )
    web = service(*(local(kind, (family, given, 6, port), lab.pods, here) for kind, given, port, _ in kinds))
    names, mine = {pod.name for pod in lab.pods}, {pod.name for pod in here}
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        for _, _, port, address in kinds:
            for stranger in (outside, other):
                assert set(many(stranger.space, address, port, 12)) == mine, port
                assert connect(stranger.space, address, port).seen == stranger.address(family)
            assert set(many(client.space, address, port, 12)) == names, port
            assert set(many(node.space, address, port, 12)) == names, port
            assert connect(client.space, address, port).seen == client.address(family)


@BOTH
def test_policies_without_an_endpoint_here_drop(lab: Fabric, node: Node, family: int) -> None:
    """Sources outside and other nodes' pods are dropped, the node and its own pods are served (C3).

    A policy on internal traffic drops all (C2).
    """
    client, outside, far = node.clients[0], lab.outside[0], lab.nodes[1].servers
    frontend = Frontend(FrontendKind.CLUSTER_IP, family, packed(vip(family)), 6, 80)
    web = service(
        Entry(frontend, "p", (), Verdict.DROP, Masquerade.OFF_CLUSTER),
        local(FrontendKind.NODE_PORT, (family, "", 6, 30080), far, []),
    )
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        for space in (client.space, node.space):
            assert connect(space, vip(family), 80, timeout=QUICK).kind == TIMEOUT
            assert connect(space, node.address(family), 30080).answered
        for stranger in (outside, lab.nodes[1].clients[0]):
            assert connect(stranger.space, node.address(family), 30080, timeout=QUICK).kind == TIMEOUT


@BOTH
def test_source_ranges_close_a_load_balancer(lab: Fabric, node: Node, family: int) -> None:
    client, outside = node.clients[0], lab.outside[0]
    lb = "198.51.100.78" if family == 4 else "2001:db8:c::78"
    lab.route(lb, node)
    only_outside = (f"{outside.address(family)}/{32 if family == 4 else 128}",)
    web = service(entry(FrontendKind.LOAD_BALANCER, (family, lb, 6, 80), lab.pods, ranges=only_outside))
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        assert connect(outside.space, lb, 80).answered
        assert connect(client.space, lb, 80, timeout=QUICK).kind == TIMEOUT
        assert connect(node.space, lb, 80, timeout=QUICK).kind == TIMEOUT
        with_node = (*only_outside, f"{lb}/{32 if family == 4 else 128}")
        made.apply([service(entry(FrontendKind.LOAD_BALANCER, (family, lb, 6, 80), lab.pods, ranges=with_node))])
        assert connect(node.space, lb, 80).answered
        made.apply([service(entry(FrontendKind.LOAD_BALANCER, (family, lb, 6, 80), [], ranges=only_outside))])
        assert connect(outside.space, lb, 80).kind == REFUSED
        assert connect(client.space, lb, 80, timeout=QUICK).kind == TIMEOUT


@BOTH
@PROTOCOLS
def test_a_pod_reaches_itself_through_its_service(
    lab: Fabric, node: Node, family: int, protocol: str, number: int
) -> None:
    pod = node.servers[0]
    pin = (Hairpin(packed(pod.address(family)), number, 8080),)
    web = service(entry(FrontendKind.CLUSTER_IP, (family, vip(family), number, 80), [pod]), hairpins=pin)
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        found = connect(pod.space, vip(family), 80, protocol)
        assert found == Outcome(ANSWER, pod.name, node.gateway(family))


@BOTH
def test_an_established_connection_outlives_its_endpoint_and_a_restart(lab: Fabric, node: Node, family: int) -> None:
    first, second = lab.pods[0], lab.pods[1]

    def web(pods: list[Pod]) -> ServiceForwarding:
        return service(entry(FrontendKind.CLUSTER_IP, (family, vip(family), 6, 80), pods))

    with dataplane(node.space) as made:
        made.apply([web([first])], addresses(node), complete=True)
        with Connection(node.clients[0].space, vip(family), 80) as held:
            assert held.open().name == first.name
            made.apply([web([second])])
            assert held.ask().name == first.name
            with dataplane(node.space) as again:
                assert again.apply([web([second])], addresses(node), complete=True).messages == 0
            assert held.ask().name == first.name
            assert connect(node.clients[0].space, vip(family), 80).name == second.name
            assert f"{first.address(family)}" in run(node.space, "ipvsadm", "-Ln")


@BOTH
def test_affinity_keeps_a_client_at_its_endpoint(lab: Fabric, node: Node, family: int) -> None:
    plain = entry(FrontendKind.CLUSTER_IP, (family, vip(family), 6, 80), lab.pods)
    sticky = Entry(plain.frontend, "p", plain.targets, plain.verdict, plain.masquerade, affinity_seconds=60)
    with dataplane(node.space) as made:
        made.apply([service(sticky)], addresses(node), complete=True)
        for client in (*node.clients, node.servers[0]):
            assert len(many(client.space, vip(family), 80, 8)) == 1


@BOTH
def test_sources_are_masqueraded_as_the_settings_say(lab: Fabric, node: Node, family: int) -> None:
    web = service(entry(FrontendKind.CLUSTER_IP, (family, vip(family), 6, 80), node.servers))
    client = node.clients[0]
    for settings, seen in (
        (Settings(CLUSTER_CIDRS, masquerade_all=True), node.gateway(family)),
        (Settings(), client.address(family)),
        (Settings(interface="eth*"), node.gateway(family)),
    ):
        with dataplane(node.space, settings) as made:
            made.apply([web], addresses(node), complete=True)
            assert connect(client.space, vip(family), 80).seen == seen, settings
            assert connect(node.space, vip(family), 80).seen == node.gateway(family), settings


@BOTH
def test_a_segment_outside_of_the_window_ends_no_stream(lab: Fabric, node: Node, family: int) -> None:
    """For a pod, whose connections IPVS knows by itself; for the node, and for who is masqueraded."""
    pod, outside = lab.nodes[1].servers[0], lab.outside[0].space
    web = service(
        entry(FrontendKind.CLUSTER_IP, (family, vip(family), 6, 80), [pod]),
        entry(FrontendKind.NODE_PORT, (family, "", 6, 30080), [pod]),
    )
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        for client in (node.clients[0].space, node.space):
            assert outlives_a_segment_far_ahead(client, (vip(family), 80), pod, family)
        assert outlives_a_segment_far_ahead(outside, (node.address(family), 30080), pod, family)
