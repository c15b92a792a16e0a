"""Real packets through iptables mode, in both flavours: one node of the laboratory, its pods, clients around it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Entry, Frontend, FrontendKind, NodeForwarding, ServiceForwarding
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.outcome import Commit
from nodeagent.linux.iptables.programs import Flavour
from tests.kernel.answers import assert_everybody_answers
from tests.kernel.iptables_support import FLAVOURS, cleaned, dataplane
from tests.kernel.nftables_support import entry, node_addresses, packed, targets
from tools.lab.client import ANSWER, REFUSED, TIMEOUT, UNREACHABLE, Connection, Outcome, connect, many
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod
from tools.lab.rules import run

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize("protocol", ["tcp", "udp"])
NUMBERS = {"tcp": 6, "udp": 17}
EVERYWHERE = NodeForwarding((), (4, 6))


@pytest.fixture(autouse=True)
def _spotless(clean: Fabric) -> Iterator[None]:
    with cleaned(clean.nodes[0].space):
        yield


def vip(family: int) -> str:
    return "172.30.0.1" if family == 4 else "fd00:10:96::1"


def web(pods: list[Pod], family: int, number: int = 6, seconds: int = 0) -> ServiceForwarding:
    """A Service with a cluster IP on port 80 and a node port 30080."""
    backends = targets(pods, family)
    entries = (
        entry(Frontend(FrontendKind.CLUSTER_IP, family, packed(vip(family)), number, 80), backends),
        entry(Frontend(FrontendKind.NODE_PORT, family, b"", number, 30080), backends),
    )
    sticky = tuple(replace(each, affinity_seconds=seconds) for each in entries)
    return ServiceForwarding(ObjectKey(Kind.SERVICE, "default", "web"), sticky)


def figure(made: IptablesDataplane, name: str) -> float | None:
    """What a scrape shows of it; None where this kernel counts no packets."""
    values = next(figure.values for figure in made.metrics() if name in figure.name)
    return values[0][1] if values else None


@BOTH
@PROTOCOLS
@FLAVOURS
def test_who_answers_and_whom_the_pods_see(
    clean: Fabric, echo: EchoServers, flavour: Flavour, family: int, protocol: str
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    with dataplane(node.space, flavour) as made:
        made.apply([web(pods, family, NUMBERS[protocol])], node_addresses(node), complete=True)
        assert_everybody_answers(clean, vip(family), family, protocol)


@BOTH
@PROTOCOLS
@FLAVOURS
def test_no_endpoint_refuses_at_once_and_comes_back(
    clean: Fabric, echo: EchoServers, flavour: Flavour, family: int, protocol: str
) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    client, outside = node.clients[0].space, clean.outside[0].space
    # A UDP sender on the node itself hears of it before any ICMP does: the output hook fails its send (EPERM).
    refused = {client: {REFUSED}, node.space: {REFUSED} if protocol == "tcp" else {REFUSED, UNREACHABLE}}
    with dataplane(node.space, flavour) as made:
        made.apply([web([], family, NUMBERS[protocol])], node_addresses(node), complete=True)
        for space, kinds in refused.items():
            assert connect(space, vip(family), 80, protocol).kind in kinds
        assert connect(outside, node.address(family), 30080, protocol).kind == REFUSED
        made.apply([web([pod], family, NUMBERS[protocol])])
        for space in refused:
            assert connect(space, vip(family), 80, protocol).name == pod.name
        assert connect(client, vip(family), 81, protocol, timeout=0.3).kind == TIMEOUT  # F5
        made.apply([], complete=True)
        assert connect(client, vip(family), 80, protocol, timeout=0.3).kind == TIMEOUT


@BOTH
@FLAVOURS
def test_a_pod_reaches_itself_through_its_service(
    clean: Fabric, echo: EchoServers, flavour: Flavour, family: int
) -> None:
    node = clean.nodes[0]
    pod = node.servers[0]
    echo.start_pod(pod)
    with dataplane(node.space, flavour) as made:
        made.apply([web([pod], family)], node_addresses(node), complete=True)
        assert connect(pod.space, vip(family), 80) == Outcome(ANSWER, pod.name, node.gateway(family))


@BOTH
@FLAVOURS
def test_connections_are_spread_evenly_also_after_scaling_down_and_up(
    clean: Fabric, echo: EchoServers, flavour: Flavour, family: int
) -> None:
    """Six and a half times the standard deviation of a fair choice: less than 1 in 10^8 runs would fail by chance."""
    node, pods, count = clean.nodes[0], clean.pods[:5], 2000
    for pod in pods:
        echo.start_pod(pod)
    with dataplane(node.space, flavour) as made:
        made.apply([web(pods, family)], node_addresses(node), complete=True)
        for some in (pods, pods[1:], pods):
            made.apply([web(some, family)])
            share = count / len(some)
            found = many(node.clients[0].space, vip(family), 80, count)
            assert set(found) == {pod.name for pod in some}
            deviation = (share * (1 - 1 / len(some))) ** 0.5
            assert all(abs(hits - share) < 6.5 * deviation for hits in found.values()), found


@BOTH
@FLAVOURS
def test_an_established_connection_outlives_its_endpoint_and_a_restart(
    clean: Fabric, echo: EchoServers, flavour: Flavour, family: int
) -> None:
    node, first, second = clean.nodes[0], clean.pods[0], clean.pods[1]
    for pod in (first, second):
        echo.start_pod(pod)
    client = node.clients[0].space
    with dataplane(node.space, flavour) as made:
        made.apply([web([first], family)], node_addresses(node), complete=True)
        with Connection(client, vip(family), 80) as held:
            assert held.open().name == first.name
            made.apply([web([second], family)])
            assert held.ask().name == first.name
            with dataplane(node.space, flavour) as again:
                assert again.apply([web([second], family)], node_addresses(node), complete=True) == Commit()
            assert held.ask().name == first.name
            assert connect(client, vip(family), 80).name == second.name


@BOTH
@FLAVOURS
def test_a_client_stays_with_its_endpoint_also_while_others_come(
    clean: Fabric, echo: EchoServers, flavour: Flavour, family: int
) -> None:
    node, pods = clean.nodes[0], clean.pods[:4]
    for pod in pods:
        echo.start_pod(pod)
    client = node.clients[0].space
    with dataplane(node.space, flavour) as made:
        made.apply([web(pods[:3], family, seconds=600)], node_addresses(node), complete=True)
        mine = connect(client, vip(family), 80).name
        made.apply([web(pods, family, seconds=600)])
        assert set(many(client, vip(family), 80, 30)) == {mine}
        assert {connect(client, node.address(family), 30080).name for _ in range(5)} == {mine}  # H2
        made.apply([web([pod for pod in pods if pod.name != mine], family, seconds=600)])
        assert connect(client, vip(family), 80).name != mine


@BOTH
@FLAVOURS
def test_local_policy_keeps_the_clients_address_and_insiders_get_any_endpoint(
    clean: Fabric, echo: EchoServers, flavour: Flavour, family: int
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    here = [pod for pod in pods if pod.node == node.name]

    def local(backends: list[Pod]) -> ServiceForwarding:
        def policy(each: Entry) -> Entry:
            if each.frontend.kind is FrontendKind.CLUSTER_IP:
                return each
            verdict = each.external_verdict if backends else type(each.external_verdict).DROP
            return replace(each, local_targets=targets(backends, family), external_verdict=verdict)

        both = web(pods, family)
        return replace(both, entries=tuple(map(policy, both.entries)))

    outside, client = clean.outside[0], node.clients[0]
    with dataplane(node.space, flavour) as made:
        made.apply([local(here)], node_addresses(node), complete=True)
        assert set(many(outside.space, node.address(family), 30080, 60)) == {pod.name for pod in here}
        assert connect(outside.space, node.address(family), 30080).seen == outside.address(family)
        assert set(many(client.space, node.address(family), 30080, 200)) == {pod.name for pod in pods}
        made.apply([local([])])
        assert connect(outside.space, node.address(family), 30080, timeout=0.3).kind == TIMEOUT
        assert connect(client.space, node.address(family), 30080).answered


@FLAVOURS
def test_node_ports_on_loopback_are_for_the_node_alone(clean: Fabric, echo: EchoServers, flavour: Flavour) -> None:
    """CVE-2020-8558: with loopback routed, a neighbour must not reach what listens there."""
    node, pod, inner = clean.nodes[0], clean.pods[0], "127.0.0.2"
    neighbour = node.clients[0].space
    echo.start_pod(pod)
    echo.start(node.space, inner, 9999, "tcp", "inner")
    neighbour.sysctl({"ipv4/conf/all/route_localnet": 1})
    run(neighbour, "ip", "route", "del", "table", "local", "local", "127.0.0.0/8", "dev", "lo", check=False)
    run(neighbour, "ip", "route", "add", f"{inner}/32", "via", node.gateway(4), "dev", "eth0", "onlink")
    try:
        with dataplane(node.space, flavour) as made:
            made.apply([web([pod], 4)], EVERYWHERE, complete=True)
            assert connect(node.space, "127.0.0.1", 30080).name == pod.name
            assert figure(made, "localhost_nodeports_accepted_packets") in (1, None)
            assert connect(clean.outside[0].space, node.address(4, 1), 30080).name == pod.name
            assert connect(neighbour, inner, 9999, timeout=0.3).kind == TIMEOUT
            run(node.space, f"iptables-{flavour.value}", "-F", "KUBE-FIREWALL")
            assert connect(neighbour, inner, 9999).name == "inner"  # it was the guard
            made.repair()
            assert connect(neighbour, inner, 9999, timeout=0.3).kind == TIMEOUT
    finally:
        run(neighbour, "ip", "route", "del", f"{inner}/32", check=False)
        node.space.sysctl({"ipv4/conf/all/route_localnet": 0})
