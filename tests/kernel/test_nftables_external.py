"""External addresses with real packets: who is let in, who answers, whom the pods see."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Masquerade,
    NodeForwarding,
    ServiceForwarding,
    Verdict,
)
from deltaplane.model import Kind, ObjectKey
from tests.kernel.nftables_support import dataplane, entry, hairpins, nft, node_addresses, packed, targets
from tools.lab.client import REFUSED, TIMEOUT, connect, many
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node, Pod

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize(("protocol", "number"), [("tcp", 6), ("udp", 17)])
VIPS = {4: "198.18.0.7", 6: "2001:db8:d::7"}
ALLOWED = {4: ("203.0.113.0/25", "10.180.0.0/16"), 6: ("2001:db8:f::/121", "fd00:10:180::/48")}


def balancer(node: Node, pods: list[Pod], family: int, number: int, **given: object) -> ServiceForwarding:
    """A Service on a load balancer's address and a node port."""
    backends = targets(pods, family)
    vip = entry(Frontend(FrontendKind.LOAD_BALANCER, family, packed(VIPS[family]), number, 80), backends)
    port = entry(Frontend(FrontendKind.NODE_PORT, family, b"", number, 30080), backends)
    local = {key: value for key, value in given.items() if key != "source_ranges"}
    entries = (replace(vip, **given), replace(port, **local))
    key = ObjectKey(Kind.SERVICE, "default", "web")
    return ServiceForwarding(key, entries, hairpins(node, family, number))


def local_policy(node: Node, family: int, here: list[Pod]) -> dict[str, object]:
    verdict = Verdict.FORWARD if here else Verdict.DROP
    return {"masquerade": Masquerade.NODE_ONLY, "local_targets": targets(here, family), "external_verdict": verdict}


@BOTH
@PROTOCOLS
def test_other_sources_hear_nothing_of_a_load_balancer(
    clean: Fabric, echo: EchoServers, family: int, protocol: str, number: int
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    clean.route(f"{VIPS[family]}/{32 if family == 4 else 128}", node)
    allowed, blocked = clean.outside
    with dataplane(node.space) as (made, _):
        made.apply(
            [balancer(node, pods, family, number, source_ranges=ALLOWED[family])], node_addresses(node), complete=True
        )
        assert connect(allowed.space, VIPS[family], 80, protocol).answered
        assert connect(node.clients[0].space, VIPS[family], 80, protocol).answered
        for space in (blocked.space, node.space):
            assert connect(space, VIPS[family], 80, protocol, timeout=0.3).kind == TIMEOUT
        assert connect(blocked.space, node.address(family), 30080, protocol).answered
        made.apply([balancer(node, pods, family, number)])
        assert connect(blocked.space, VIPS[family], 80, protocol).answered
        nowhere = {"verdict": Verdict.REJECT, "targets": (), "source_ranges": ALLOWED[family]}
        made.apply([balancer(node, pods, family, number, **nowhere)])
        assert connect(allowed.space, VIPS[family], 80, protocol).kind == REFUSED
        assert connect(blocked.space, VIPS[family], 80, protocol, timeout=0.3).kind == TIMEOUT
        made.apply([], complete=True)
        assert "firewall/" not in nft(node.space, "list", "ruleset")


@BOTH
@PROTOCOLS
def test_local_policy_shows_the_client_and_keeps_it_here(
    clean: Fabric, echo: EchoServers, family: int, protocol: str, number: int
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    clean.route(f"{VIPS[family]}/{32 if family == 4 else 128}", node)
    outside, pod_client = clean.outside[0], node.clients[0]
    here, everywhere = {pod.name for pod in node.servers}, {pod.name for pod in pods}
    with dataplane(node.space) as (made, _):
        local = local_policy(node, family, node.servers)
        made.apply([balancer(node, pods, family, number, **local)], node_addresses(node), complete=True)
        for address, port in ((VIPS[family], 80), (node.address(family), 30080)):
            assert set(many(outside.space, address, port, 100, protocol)) == here
            assert connect(outside.space, address, port, protocol).seen == outside.address(family)
            assert set(many(pod_client.space, address, port, 200, protocol)) == everywhere
            assert connect(pod_client.space, address, port, protocol).seen == pod_client.address(family)
            assert set(many(node.space, address, port, 200, protocol)) == everywhere
        nowhere = local_policy(node, family, [])
        made.apply([balancer(node, pods, family, number, **nowhere)])
        assert connect(outside.space, VIPS[family], 80, protocol, timeout=0.3).kind == TIMEOUT
        assert set(many(pod_client.space, VIPS[family], 80, 200, protocol)) == everywhere


@BOTH
def test_node_ports_on_every_address_of_the_node(clean: Fabric, echo: EchoServers, family: int) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    second = node.address(family, 1)
    with dataplane(node.space) as (made, _):
        made.apply([balancer(node, [pod], family, 6)], node_addresses(node), complete=True)
        assert connect(clean.outside[0].space, second, 30080).kind == REFUSED  # by the node itself: nobody listens
        assert connect(clean.outside[0].space, node.address(family), 30080).answered
        made.apply([], NodeForwarding(match_all_families=(family,)))
        for address in (second, node.address(family)):
            assert connect(clean.outside[0].space, address, 30080).answered


@BOTH
def test_unallocated_service_addresses_are_dropped(clean: Fabric, family: int) -> None:
    node = clean.nodes[0]
    cidr, unused = ("198.18.5.0/24", "198.18.5.9") if family == 4 else ("2001:db8:e::/64", "2001:db8:e::9")
    clean.route(cidr, clean.nodes[1])
    with dataplane(node.space) as (made, _):
        made.apply([], node_addresses(node), complete=True)
        made.apply([], replace(node_addresses(node), service_cidrs=(cidr,)))
        assert connect(node.clients[0].space, unused, 80, timeout=0.3).kind == TIMEOUT
        assert cidr.split("/")[0] in nft(node.space, "list", "ruleset")
        assert made.apply([], replace(node_addresses(node), service_cidrs=(cidr,))).messages == 0
        made.apply([], node_addresses(node))
        assert cidr.split("/")[0] not in nft(node.space, "list", "ruleset")


@BOTH
def test_what_pods_have_of_a_service_cidr_is_let_through(clean: Fabric, echo: EchoServers, family: int) -> None:
    node, pod = clean.nodes[0], clean.nodes[1].servers[0]
    pods = clean.nodes[1].pod_cidrs[0 if family == 4 else 1]
    echo.start_pod(pod)
    with dataplane(node.space) as (made, _):
        made.apply([], replace(node_addresses(node), service_cidrs=(pods,)), complete=True)
        for client in (node.clients[0].space, node.space):
            assert connect(client, pod.address(family), 8080, timeout=0.3).kind == TIMEOUT
        made.apply([], replace(node_addresses(node), service_cidrs=(pods,), taken_cidrs=(pods,)))
        for client in (node.clients[0].space, node.space):
            assert connect(client, pod.address(family), 8080).answered


def test_sctp_rules_load(clean: Fabric) -> None:
    """Its packets cannot be tried everywhere; its elements can."""
    node = clean.nodes[0]
    with dataplane(node.space) as (made, _):
        for family in (4, 6):
            service = balancer(node, clean.pods, family, 132, source_ranges=ALLOWED[family], affinity_seconds=60)
            assert made.apply([service], node_addresses(node), complete=True).failed == ()
            listed = nft(node.space, "list", "ruleset")
            assert f"{VIPS[family]} . sctp . 80 : goto external-8/60/default/web/p/sctp" in listed
            assert "sctp . 30080 : goto nodeport-8/60/default/web/p/sctp" in listed


def test_a_refused_entry_of_ranges_is_that_services_trouble_alone(clean: Fabric) -> None:
    node = clean.nodes[0]
    vip = Frontend(FrontendKind.LOAD_BALANCER, 4, packed(VIPS[4]), 6, 80)
    bad = Entry(vip, "p", (), Verdict.REJECT, Masquerade.ALWAYS, source_ranges=("2001:db8::/32",))
    key = ObjectKey(Kind.SERVICE, "default", "bad")
    with dataplane(node.space) as (made, _):
        commit = made.apply(
            [ServiceForwarding(key, (bad,)), balancer(node, clean.pods, 4, 17)], node_addresses(node), complete=True
        )
        assert [failed.key for failed in commit.failed] == [key]
        assert "30080" in nft(node.space, "list", "ruleset")
