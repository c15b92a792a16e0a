"""External traffic on the real API server: stories W6 to W9 of an operator, over both families with real packets."""

from __future__ import annotations

import pytest

from tests.e2e import tables
from tests.e2e.shop import LIMIT, SLICE_PORTS, Shop, names, reached
from tools.lab import manifests
from tools.lab.client import REFUSED, TIMEOUT, connect, many, until
from tools.lab.fabric import Node
from tools.lab.manifests import port
from tools.lab.netns import Namespace

FAMILIES = pytest.mark.parametrize("family", [4, 6])
NODE_PORT = 32224
BALANCERS = {4: "198.18.9.1", 6: "2001:db8:18::91"}
NOBODY = {4: "192.0.2.0/24", 6: "2001:db8:dead::/64"}


@pytest.fixture
def routed(shop: Shop) -> Shop:
    """The router sends the load balancers' addresses to the second node, which has no pod of its own."""
    for family, length in ((4, 32), (6, 128)):
        shop.fabric.route(f"{BALANCERS[family]}/{length}", shop.fabric.nodes[1])
    return shop


def outside(shop: Shop) -> Namespace:
    return shop.fabric.outside[0].space


def answers(space: Namespace, address: str, number: int) -> bool:
    return connect(space, address, number, timeout=0.3).answered


def until_seen(space: Namespace, address: str, number: int, seen: str) -> None:
    """Until pods see this client: the policy is in the kernel."""
    until(lambda: connect(space, address, number, timeout=0.3).seen == seen, LIMIT, what=f"{address} as {seen}")


@FAMILIES
def test_w6_local_policy_keeps_to_the_node_and_shows_the_client_live_both_ways(shop: Shop, family: int) -> None:
    home, empty = shop.fabric.nodes[0], shop.fabric.nodes[2]
    shop.open(kind="NodePort", ports=[port(80, 8080, "web", node_port=NODE_PORT)])
    shop.endpoints([*home.servers, *shop.fabric.nodes[1].servers])
    shop.settle()
    client = shop.fabric.outside[0]
    everybody = names([*home.servers, *shop.fabric.nodes[1].servers])

    for _ in range(2):
        shop.rest.patch("Service", "my-service", {"spec": {"externalTrafficPolicy": "Local"}})
        until_seen(client.space, home.address(family), NODE_PORT, client.address(family))
        until(lambda: not answers(client.space, empty.address(family), NODE_PORT), LIMIT, what="the empty node drops")
        assert reached(client.space, home.address(family), NODE_PORT, "tcp", 60) == names(home.servers)
        assert connect(client.space, empty.address(family), NODE_PORT, timeout=0.5).kind == TIMEOUT

        shop.rest.patch("Service", "my-service", {"spec": {"externalTrafficPolicy": "Cluster"}})
        until(lambda: answers(client.space, empty.address(family), NODE_PORT), LIMIT, what="every node answers")
        assert reached(client.space, empty.address(family), NODE_PORT, "tcp") == everybody


@FAMILIES
def test_w6_pods_of_other_nodes_are_answered_by_the_node_they_ask_alone_under_local_policy(
    shop: Shop, family: int
) -> None:
    """C1, C3: where it has no endpoint they get no answer; its own pods are answered by all endpoints everywhere."""
    home, second, empty = shop.fabric.nodes
    shop.open(kind="NodePort", ports=[port(80, 8080, "web", node_port=NODE_PORT)])
    shop.endpoints([*home.servers, *second.servers])
    shop.settle()
    everybody = names([*home.servers, *second.servers])
    client, own, stranger = second.clients[0], home.clients[0], shop.fabric.outside[0]
    shop.rest.patch("Service", "my-service", {"spec": {"externalTrafficPolicy": "Local"}})
    until(lambda: not answers(stranger.space, empty.address(family), NODE_PORT), LIMIT, what="the empty node drops")
    until_seen(client.space, home.address(family), NODE_PORT, client.address(family))

    found = many(client.space, home.address(family), NODE_PORT, 40)
    assert (found.total(), set(found) - names(home.servers)) == (40, set())
    assert connect(client.space, empty.address(family), NODE_PORT, timeout=0.5).kind == TIMEOUT
    for insider, node in ((own, home), (empty.clients[0], empty)):
        assert reached(insider.space, node.address(family), NODE_PORT, "tcp") == everybody
        assert connect(insider.space, node.address(family), NODE_PORT).seen == insider.address(family)


@FAMILIES
def test_w7_a_load_balancer_is_served_once_its_address_is_known(routed: Shop, family: int) -> None:
    client, balancer = outside(routed), BALANCERS[family]
    routed.open(kind="LoadBalancer", ports=[port(80, 8080, "web", node_port=NODE_PORT)])
    routed.endpoints(routed.fabric.nodes[0].servers)
    routed.settle()
    assert "ingress" not in routed.rest.get("Service", "my-service")["status"]["loadBalancer"]
    assert answers(client, routed.fabric.nodes[2].address(family), NODE_PORT)
    assert not answers(client, balancer, 80)

    _ingress(routed)

    until(lambda: answers(client, balancer, 80), LIMIT, what=f"{balancer} is served")
    assert reached(client, balancer, 80, "tcp", 60) == names(routed.fabric.nodes[0].servers)
    assert answers(routed.clients["pod"], balancer, 80)


@FAMILIES
def test_w7_source_ranges_let_only_those_sources_in(routed: Shop, family: int) -> None:
    first, second = routed.fabric.outside[:2]
    balancer = BALANCERS[family]
    routed.open(kind="LoadBalancer", ports=[port(80, 8080, "web")])
    routed.endpoints(routed.fabric.nodes[0].servers)
    _ingress(routed)
    for client in (first, second):
        until(lambda: answers(client.space, balancer, 80), LIMIT, what=f"{balancer} is served")  # noqa: B023

    length = 32 if family == 4 else 128
    ranges = [f"{first.address(family)}/{length}", NOBODY[10 - family]]
    routed.rest.patch("Service", "my-service", {"spec": {"loadBalancerSourceRanges": ranges}})

    until(lambda: not answers(second.space, balancer, 80), LIMIT, what="the other client is shut out")
    assert connect(second.space, balancer, 80, timeout=0.5).kind == TIMEOUT
    assert answers(first.space, balancer, 80)
    routed.rest.patch("Service", "my-service", {"spec": {"loadBalancerSourceRanges": None}})
    until(lambda: answers(second.space, balancer, 80), LIMIT, what="the other client is let in again")


@FAMILIES
def test_w8_an_external_ip_on_one_node_is_served_there_and_refused_elsewhere(shop: Shop, family: int) -> None:
    here, there = shop.fabric.nodes[1], shop.fabric.nodes[2]
    shop.open(ports=[port(80, 8080, "web")], externalIPs=[here.address(family)])
    shop.endpoints(shop.fabric.nodes[0].servers)

    until(lambda: answers(outside(shop), here.address(family), 80), LIMIT, what="the external address is served")

    assert reached(outside(shop), here.address(family), 80, "tcp", 60) == names(shop.fabric.nodes[0].servers)
    assert connect(outside(shop), there.address(family), 80).kind == REFUSED


def test_w9_an_external_name_programs_nothing_on_any_node(shop: Shop) -> None:
    shop.settle()
    before = {node.name: rules(node) for node in shop.fabric.nodes}
    spec = {"type": "ExternalName", "externalName": "example.org", "ports": [port(80, 8080, "web")]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "elsewhere", "namespace": "default"}}
    shop.rest.create(body | {"spec": spec})
    for part in manifests.slices("elsewhere", shop.fabric.pods, SLICE_PORTS):
        shop.rest.apply(part)
    shop.open()  # comes after it, so where this one is, that one was looked at
    until(lambda: all(rules(node) != before[node.name] for node in shop.fabric.nodes), LIMIT, what="the other Service")
    shop.rest.delete(manifests.service("my-service", []))

    until(lambda: all(rules(node) == before[node.name] for node in shop.fabric.nodes), LIMIT, what="nothing is left")


def rules(node: Node) -> tables.Tables:
    return tables.read(node.space)


def _ingress(shop: Shop) -> None:
    """What a cloud's controller would write."""
    ingress = [{"ip": address} for address in BALANCERS.values()]
    shop.rest.patch("Service", "my-service", {"status": {"loadBalancer": {"ingress": ingress}}}, sub="status")
