"""Real packets through userspace mode: who answers, who is refused or dropped, and what a change costs."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Entry, Frontend, FrontendKind, Masquerade, ServiceForwarding, Verdict
from nodeagent.dataplane.userspace.settings import Settings
from tests.kernel.nftables_support import entry, nft, node_addresses, packed, targets
from tests.kernel.userspace_support import SETTINGS, cluster_ip, node_port, service, userspace, vip
from tools.lab.client import REFUSED, TIMEOUT, UNREACHABLE, Connection, connect, many
from tools.lab.echo import EchoServers
from tools.lab.fabric import CLUSTER_CIDRS, Fabric, Node, Pod

pytestmark = pytest.mark.kernel

NUMBERS = {"tcp": 6, "udp": 17}
WAYS = pytest.mark.parametrize(  # to redirect: nft in full, iptables crosswise
    ("way", "family", "protocol"),
    [
        *(("nft", family, protocol) for family in (4, 6) for protocol in NUMBERS),
        *(("iptables-nft", 4, "tcp"), ("iptables-nft", 6, "udp")),
        *(("iptables-legacy", 6, "tcp"), ("iptables-legacy", 4, "udp")),
    ],
)


def by(way: str) -> Settings:
    return replace(SETTINGS, redirect=way)


def web(pods: list[Pod], family: int, number: int = 6) -> tuple[Entry, ...]:
    """A cluster IP on port 80 and a node port 30080."""
    backends = targets(pods, family)
    return entry(cluster_ip(family, number), backends), entry(node_port(family, number), backends)


def local_policy(node: Node, pods: list[Pod], family: int, number: int = 6) -> Entry:
    """A node port whose outside clients stay on this node."""
    mine = tuple(t for t in targets(pods, family) if t in targets(node.servers, family))
    verdict = Verdict.FORWARD if mine else Verdict.DROP
    return Entry(
        node_port(family, number), "p", targets(pods, family), Verdict.FORWARD, Masquerade.NODE_ONLY, mine, verdict
    )


@WAYS
def test_every_endpoint_answers_in_turn_from_everywhere(
    clean: Fabric, echo: EchoServers, way: str, family: int, protocol: str
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    with userspace(node.space, by(way)) as made:
        made.apply([service(*web(pods, family, NUMBERS[protocol]))], node_addresses(node), complete=True)
        evenly = Counter({pod.name: 4 for pod in pods})
        places = ((vip(family), 80), (node.address(family), 30080))
        for space in (node.clients[0].space, node.space, node.servers[0].space):
            for address, port in places:
                assert many(space, address, port, 4 * len(pods), protocol) == evenly
        assert many(clean.outside[0].space, node.address(family), 30080, 4 * len(pods), protocol) == evenly
        assert connect(node.clients[0].space, node.address(family, 1), 30080, protocol).kind == REFUSED  # not listed


@WAYS
def test_no_endpoint_and_no_such_port_refuse_at_once_and_come_back(
    clean: Fabric, echo: EchoServers, way: str, family: int, protocol: str
) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    spaces = (node.clients[0].space, node.space)
    refused = {node.clients[0].space: {REFUSED}, node.space: {REFUSED} if protocol == "tcp" else {REFUSED, UNREACHABLE}}
    with userspace(node.space, by(way)) as made:
        made.apply([service(*web([], family, NUMBERS[protocol]))], node_addresses(node), complete=True)
        assert made.count().listeners == 0
        for space in spaces:
            assert connect(space, vip(family), 80, protocol).kind in refused[space]
        assert connect(clean.outside[0].space, node.address(family), 30080, protocol).kind == REFUSED
        made.apply([service(*web([pod], family, NUMBERS[protocol]))])
        for space in spaces:
            assert connect(space, vip(family), 80, protocol).name == pod.name
            if way == "nft":  # F5
                assert connect(space, vip(family), 81, protocol).kind in refused[space]
        made.apply([], complete=True)
        assert made.count().listeners == 0
        assert connect(spaces[0], vip(family), 80, protocol, timeout=0.3).kind == TIMEOUT


@WAYS
def test_sources_outside_have_this_nodes_endpoints_or_silence(
    clean: Fabric, echo: EchoServers, way: str, family: int, protocol: str
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    outside, inside = clean.outside[0].space, node.clients[0].space
    everyone, mine = {pod.name for pod in pods}, {pod.name for pod in node.servers}
    with userspace(node.space, by(way)) as made:
        made.apply([service(local_policy(node, pods, family, NUMBERS[protocol]))], node_addresses(node), complete=True)
        assert set(many(outside, node.address(family), 30080, 12, protocol)) == mine
        assert set(many(inside, node.address(family), 30080, 12, protocol)) == everyone
        assert set(many(node.space, node.address(family), 30080, 12, protocol)) == everyone
        away = clean.nodes[1].servers
        made.apply([service(local_policy(node, away, family, NUMBERS[protocol]))])
        assert connect(outside, node.address(family), 30080, protocol, timeout=0.3).kind == TIMEOUT
        assert set(many(inside, node.address(family), 30080, 8, protocol)) == {pod.name for pod in away}
        made.apply([service(local_policy(node, pods, family, NUMBERS[protocol]))])
        assert set(many(outside, node.address(family), 30080, 12, protocol)) == mine


@WAYS
def test_sources_out_of_the_ranges_are_not_heard(
    clean: Fabric, echo: EchoServers, way: str, family: int, protocol: str
) -> None:
    node, pod = clean.nodes[0], clean.nodes[0].servers[0]
    echo.start_pod(pod)
    address, width = ("198.18.0.10", 32) if family == 4 else ("2001:db8:ff::10", 128)
    near, far = clean.outside
    inside = node.clients[0].space
    elsewhere = "192.0.2.0/25" if family == 4 else "2001:db8:9::/47"
    balancer = entry(
        Frontend(FrontendKind.LOAD_BALANCER, family, packed(address), NUMBERS[protocol], 80), targets([pod], family)
    )
    clean.route(f"{address}/{width}", node)

    def closed_to_all_but(*ranges: str) -> ServiceForwarding:
        return service(replace(balancer, source_ranges=ranges), *web([pod], family, NUMBERS[protocol]))

    with userspace(node.space, by(way)) as made:
        made.apply(
            [closed_to_all_but(elsewhere, f"{near.address(family)}/{width}")], node_addresses(node), complete=True
        )
        assert connect(near.space, address, 80, protocol).name == pod.name
        assert connect(far.space, address, 80, protocol, timeout=0.3).kind == TIMEOUT
        assert connect(inside, address, 80, protocol, timeout=0.3).kind == TIMEOUT
        assert connect(inside, vip(family), 80, protocol).name == pod.name
        made.apply([closed_to_all_but(CLUSTER_CIDRS[0 if family == 4 else 1])])
        assert connect(near.space, address, 80, protocol, timeout=0.3).kind == TIMEOUT
        assert connect(inside, address, 80, protocol).name == pod.name
        made.apply([closed_to_all_but()])
        assert connect(far.space, address, 80, protocol).name == pod.name


@pytest.mark.parametrize("protocol", NUMBERS)
def test_the_same_client_has_the_same_endpoint_at_every_address(
    clean: Fabric, echo: EchoServers, protocol: str
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    inside, outside = node.clients[0].space, clean.outside[0].space
    sticky = tuple(replace(entry, affinity_seconds=60) for entry in web(pods, 4, NUMBERS[protocol]))
    with userspace(node.space) as made:
        made.apply([service(*sticky)], node_addresses(node), complete=True)
        first = connect(inside, vip(4), 80, protocol).name
        assert set(many(inside, vip(4), 80, 10, protocol)) == {first}
        assert set(many(inside, node.address(), 30080, 10, protocol)) == {first}
        others = [many(space, node.address(), 30080, 10, protocol) for space in (outside, node.space)]
        assert all(len(found) == 1 for found in others)
        rest = [pod for pod in pods if pod.name != first]
        made.apply([service(*(replace(e, targets=targets(rest, 4)) for e in sticky))])
        second = connect(inside, vip(4), 80, protocol).name
        assert second != first
        made.apply([service(*sticky)])
        assert set(many(inside, vip(4), 80, 10, protocol)) == {second}


def test_a_change_of_endpoints_writes_no_rule_and_moves_no_listener(clean: Fabric, echo: EchoServers) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    many_services = [
        service(
            entry(Frontend(FrontendKind.CLUSTER_IP, 4, packed(f"172.30.1.{number}"), 6, 80), targets(pods, 4)),
            name=f"other-{number}",
        )
        for number in range(1, 101)
    ]
    with userspace(node.space) as made:
        made.apply([*many_services, service(*web(pods, 4))], node_addresses(node), complete=True)
        before = nft(node.space, "list", "ruleset"), made.count()
        with Connection(node.clients[0].space, vip(4), 80) as kept:
            held = kept.open().name
            rest = [pod for pod in pods if pod.name != held]
            done = made.apply([service(*web(rest, 4))])
            assert (done.messages, done.elements, done.size) == (0, 0, 0)
            assert nft(node.space, "list", "ruleset") == before[0]
            assert made.count().listeners == before[1].listeners == 102
            assert kept.ask().name == held  # what is established goes on
            assert set(many(node.clients[0].space, vip(4), 80, 12)) == {pod.name for pod in rest}


def test_a_restart_keeps_ports_and_writes_nothing(clean: Fabric, echo: EchoServers) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    wanted = [service(*web(pods, 4), *web(pods, 6), *web(pods, 4, 17)), service(name="empty")]
    with userspace(node.space) as made:
        made.apply(wanted, node_addresses(node), complete=True)
        before = nft(node.space, "list", "ruleset")
        made.close()
        assert connect(node.clients[0].space, vip(4), 80).kind == REFUSED  # nobody listens
        with userspace(node.space, SETTINGS) as again:
            done = again.apply(wanted, node_addresses(node), complete=True)
            assert (done.messages, done.elements) == (0, 0)
            assert nft(node.space, "list", "ruleset") == before
            assert connect(node.clients[0].space, vip(4), 80).answered
            again.apply([], complete=True)
            left = nft(node.space, "list", "ruleset")
            assert "dnat" in left
            ours = (node.address(4), node.address(6), *node.pod_cidrs)
            assert not [
                line for line in left.splitlines() if "elements" in line and not any(text in line for text in ours)
            ]
