"""Real packets through the nftables backend: one node of the laboratory, its pods, and clients inside and outside."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import Frontend, FrontendKind, ServiceForwarding
from deltaplane.model import Kind, ObjectKey
from tests.kernel.answers import assert_everybody_answers
from tests.kernel.nftables_support import dataplane, entry, hairpins, node_addresses, packed, targets
from tools.lab.client import ANSWER, REFUSED, TIMEOUT, UNREACHABLE, Connection, Outcome, connect, many
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node, Pod

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize(("protocol", "number"), [("tcp", 6), ("udp", 17)])


def vip(family: int) -> str:
    return "172.30.0.1" if family == 4 else "fd00:10:96::1"


def web(node: Node, pods: list[Pod], family: int, number: int = 6) -> ServiceForwarding:
    """A Service with a cluster IP on port 80 and a node port 30080."""
    backends = targets(pods, family)
    entries = (
        entry(Frontend(FrontendKind.CLUSTER_IP, family, packed(vip(family)), number, 80), backends),
        entry(Frontend(FrontendKind.NODE_PORT, family, b"", number, 30080), backends),
    )
    local = hairpins(node, family, number) if backends else ()
    return ServiceForwarding(ObjectKey(Kind.SERVICE, "default", "web"), entries, local)


@BOTH
@PROTOCOLS
def test_who_answers_and_whom_the_pods_see(
    clean: Fabric, echo: EchoServers, family: int, protocol: str, number: int
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    with dataplane(node.space) as (made, _):
        made.apply([web(node, pods, family, number)], node_addresses(node), complete=True)
        assert_everybody_answers(clean, vip(family), family, protocol)


@BOTH
@PROTOCOLS
def test_no_endpoint_and_no_such_port_refuse_at_once_and_come_back(
    clean: Fabric, echo: EchoServers, family: int, protocol: str, number: int
) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    spaces = (node.clients[0].space, node.space)
    # A UDP sender on the node itself hears of it before any ICMP does: the output hook fails its send (EPERM).
    refused = {node.clients[0].space: {REFUSED}, node.space: {REFUSED} if protocol == "tcp" else {REFUSED, UNREACHABLE}}
    with dataplane(node.space) as (made, _):
        made.apply([web(node, [], family, number)], node_addresses(node), complete=True)
        for space in spaces:
            assert connect(space, vip(family), 80, protocol).kind in refused[space]
        assert connect(clean.outside[0].space, node.address(family), 30080, protocol).kind == REFUSED
        made.apply([web(node, [pod], family, number)])
        for space in spaces:
            assert connect(space, vip(family), 80, protocol).name == pod.name
            assert connect(space, vip(family), 81, protocol).kind in refused[space]
        made.apply([], complete=True)
        assert connect(spaces[0], vip(family), 80, protocol, timeout=0.3).kind == TIMEOUT


@BOTH
def test_a_pod_reaches_itself_through_its_service(clean: Fabric, echo: EchoServers, family: int) -> None:
    node = clean.nodes[0]
    pod = node.servers[0]
    echo.start_pod(pod)
    with dataplane(node.space) as (made, _):
        made.apply([web(node, [pod], family)], node_addresses(node), complete=True)
        assert connect(pod.space, vip(family), 80) == Outcome(ANSWER, pod.name, node.gateway(family))


@BOTH
def test_connections_are_spread_evenly_also_after_scaling_down_and_up(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    """Six and a half times the standard deviation of a fair choice: less than 1 in 10^8 runs would fail by chance."""
    node, pods, count = clean.nodes[0], clean.pods[:5], 4000
    for pod in pods:
        echo.start_pod(pod)
    client = node.clients[0].space
    with dataplane(node.space) as (made, _):
        made.apply([web(node, pods, family)], node_addresses(node), complete=True)
        for some in (pods, pods[1:], pods):
            made.apply([web(node, some, family)])
            share = count / len(some)
            found = many(client, vip(family), 80, count)
            assert set(found) == {pod.name for pod in some}
            deviation = (share * (1 - 1 / len(some))) ** 0.5
            assert all(abs(hits - share) < 6.5 * deviation for hits in found.values()), found


@BOTH
def test_an_established_connection_outlives_its_endpoint_and_a_restart(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    node, first, second = clean.nodes[0], clean.pods[0], clean.pods[1]
    for pod in (first, second):
        echo.start_pod(pod)
    with dataplane(node.space) as (made, _):
        made.apply([web(node, [first], family)], node_addresses(node), complete=True)
        with Connection(node.clients[0].space, vip(family), 80) as held:
            assert held.open().name == first.name
            made.apply([web(node, [second], family)])
            assert held.ask().name == first.name
            with dataplane(node.space) as (again, kernel):
                again.apply([web(node, [second], family)], node_addresses(node), complete=True)
                assert kernel.transactions == 0
            assert held.ask().name == first.name
            assert connect(node.clients[0].space, vip(family), 80).name == second.name
