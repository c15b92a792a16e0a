"""What an operator tries first, on the real API server: each story is named by its id in docs/walkthrough.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from deltaplane.v1.inspection_pb2 import TailCommitsResponse
from tests.e2e import tables
from tests.e2e.conftest import Cluster
from tests.e2e.shop import LIMIT, PORTS, SLICE_PORTS, Shop, names, reached, until_reached
from tools.lab import manifests
from tools.lab.client import REFUSED, Outcome, connect, knocking, until
from tools.lab.echo import EchoServers
from tools.lab.fabric import Pod
from tools.lab.manifests import Object, port
from tools.lab.rest import Rest

FAMILIES = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize("protocol", ["tcp", "udp"])


@FAMILIES
@PROTOCOLS
def test_w1_requests_reach_all_three_pods_on_a_port_that_differs(shop: Shop, family: int, protocol: str) -> None:
    pods = shop.fabric.pods[1:4]
    made = shop.rest.apply(manifests.service("my-service", PORTS, ipFamilyPolicy="RequireDualStack"))
    shop.endpoints(pods)
    shop.settle()

    assert made["spec"]["type"] == "ClusterIP"
    address = made["spec"]["clusterIPs"][family == 6]
    for where in ("pod", "node"):
        assert reached(shop.clients[where], address, 80, protocol) == names(pods)


@FAMILIES
def test_w1_pods_see_the_pod_that_asked(shop: Shop, family: int) -> None:
    address = shop.open()[family == 6]
    shop.endpoints(shop.fabric.pods)
    shop.settle()
    client = shop.fabric.nodes[0].clients[0]

    assert connect(client.space, address, 80).seen == client.address(family)


def test_w1_a_type_left_out_is_a_cluster_ip(shop: Shop) -> None:
    thing = manifests.service("my-service", PORTS)
    del thing["spec"]["type"]
    made = shop.rest.create(thing)
    shop.endpoints(shop.fabric.pods[:1])
    shop.settle()

    assert made["spec"]["type"] == "ClusterIP"
    assert connect(shop.clients["pod"], made["spec"]["clusterIP"], 80).answered


@FAMILIES
def test_w1_pods_recreated_with_other_addresses_keep_answering(shop: Shop, servers: EchoServers, family: int) -> None:
    node = shop.fabric.nodes[1]
    old = shop.fabric.add_pod(node)
    servers.start_pod(old)
    address = shop.open()[family == 6]
    shop.endpoints([old])
    shop.settle()
    try:
        with knocking(shop.clients["pod"], address, 80) as seen:
            new = shop.fabric.add_pod(node)
            servers.start_pod(new)
            shop.endpoints([old, new])
            shop.settle()
            shop.endpoints([new])
            shop.settle()
            servers.stop_pod(old)
            shop.fabric.remove_pod(old)
            gone_at = seen.total
            until(lambda: seen.total > gone_at + 50)
        assert seen.failures == []
        assert reached(shop.clients["pod"], address, 80, "tcp") == {new.name}
    finally:
        servers.stop_pod(new)
        shop.fabric.remove_pod(new)


@FAMILIES
@PROTOCOLS
def test_w1_several_slices_are_one_service(shop: Shop, family: int, protocol: str) -> None:
    address = shop.open()[family == 6]
    groups = [shop.fabric.pods[:2], shop.fabric.pods[2:3], shop.fabric.pods[3:]]
    for number, pods in enumerate(groups):
        endpoints = [manifests.pod_endpoint(pod, family) for pod in pods]
        shop.rest.apply(
            manifests.endpoint_slice("my-service", endpoints, SLICE_PORTS, family=family, name=f"part-{number}")
        )
    shop.settle()
    assert reached(shop.clients["pod"], address, 80, protocol) == names(shop.fabric.pods)

    shop.rest.delete(manifests.endpoint_slice("my-service", [], [], name="part-1"))
    shop.settle()
    shop.forget_flows()
    assert reached(shop.clients["pod"], address, 80, protocol) == names(groups[0] + groups[2])


@FAMILIES
@PROTOCOLS
def test_w3_without_endpoints_the_connection_is_refused_at_once(shop: Shop, family: int, protocol: str) -> None:
    made = shop.rest.apply(manifests.service("my-service", PORTS, kind="NodePort", ipFamilyPolicy="RequireDualStack"))
    address, number = made["spec"]["clusterIPs"][family == 6], made["spec"]["ports"][protocol == "udp"]["nodePort"]
    shop.settle()

    # The time-out is far beyond any refusal: an outcome of its own, should packets be dropped instead.
    for where in ("pod", "node"):
        assert connect(shop.clients[where], address, 80, protocol, timeout=LIMIT).kind == REFUSED
    for space in shop.clients.values():
        assert connect(space, shop.fabric.nodes[1].address(family), number, protocol, timeout=LIMIT).kind == REFUSED


@FAMILIES
def test_w3_a_port_that_no_service_has_is_refused(shop: Shop, family: int) -> None:
    address = shop.open()[family == 6]
    shop.endpoints(shop.fabric.pods)
    shop.settle()
    assert connect(shop.clients["pod"], address, 81, timeout=LIMIT).kind == REFUSED


@FAMILIES
@PROTOCOLS
def test_w4_scaled_from_one_to_three_requests_spread_over_all(shop: Shop, family: int, protocol: str) -> None:
    pods, client = shop.fabric.pods[:3], shop.clients["pod"]
    address = shop.open()[family == 6]
    shop.endpoints(pods[:1])
    shop.settle()
    assert reached(client, address, 80, protocol, 20) == names(pods[:1])

    shop.endpoints(pods)
    until_reached(client, address, 80, protocol, pods)
    shop.settle()
    shop.endpoints(pods[:2])
    until_reached(client, address, 80, protocol, pods[:2])


def of_each(shop: Shop, number: int) -> Callable[[list[TailCommitsResponse]], bool]:
    """Whether there are so many commits of each node: their Acks come up to half a second apart."""
    return lambda got: all(sum(commit.node_name == node.name for commit in got) >= number for node in shop.fabric.nodes)


def test_w4_the_change_is_in_every_kernel_within_a_second(shop: Shop) -> None:
    """By the control plane's own clock and the agents' acknowledgements, so that a busy test does not count."""
    shop.open()
    shop.endpoints(shop.fabric.pods[:1])
    shop.settle()
    tail = shop.line.controlplane.tail()
    try:
        best: Counter[str] = Counter()
        for pods in (shop.fabric.pods[:3], shop.fabric.pods[:1], shop.fabric.pods[:3]):
            shop.endpoints(pods)
            shop.settle()
        for commit in tail.wait(of_each(shop, 3), LIMIT):
            took = commit.event_to_commit_ns
            best[commit.node_name] = min(best[commit.node_name] or took, took)
    finally:
        tail.close()
    assert best.keys() == {node.name for node in shop.fabric.nodes}
    assert max(best.values()) < 1_000_000_000


@FAMILIES
@PROTOCOLS
def test_w5_every_node_answers_on_the_node_port_and_pods_see_that_node(shop: Shop, family: int, protocol: str) -> None:
    home = shop.fabric.nodes[0]
    ports = [port(80, 8080, "web", node_port=32223), port(80, 8080, "dns", "UDP", node_port=32223)]
    shop.open(kind="NodePort", ports=ports)
    shop.endpoints(home.servers)  # the other nodes have no pod of it
    shop.settle()

    outside = shop.fabric.outside[0].space
    for node in shop.fabric.nodes:
        outcome = connect(outside, node.address(family), 32223, protocol)
        seen = home.gateway(family) if node is home else node.address(family)
        assert (outcome.name in names(home.servers), outcome.seen) == (True, seen)
        assert reached(outside, node.address(family), 32223, protocol, 40) == names(home.servers)
    assert connect(shop.clients["pod"], shop.fabric.nodes[2].address(family), 32223, protocol).answered
    assert connect(shop.clients["node"], home.address(family), 32223, protocol).answered


@FAMILIES
def test_w5_a_node_port_moves(shop: Shop, family: int) -> None:
    shop.open(kind="NodePort", ports=[port(80, 8080, "web", node_port=32223)])
    shop.endpoints(shop.fabric.pods)
    shop.settle()
    outside, node = shop.fabric.outside[0].space, shop.fabric.nodes[1]
    assert connect(outside, node.address(family), 32223).answered

    shop.open(kind="NodePort", ports=[port(80, 8080, "web", node_port=32224)])
    shop.settle()

    assert connect(outside, node.address(family), 32224).answered
    assert connect(outside, node.address(family), 32223).kind == REFUSED  # by the node itself: nobody listens


@FAMILIES
@PROTOCOLS
def test_w1_a_pod_reaches_itself_through_its_service(shop: Shop, family: int, protocol: str) -> None:
    pod = shop.fabric.pods[0]
    address = shop.open()[family == 6]
    shop.endpoints([pod])
    shop.settle()

    outcome = connect(pod.space, address, 80, protocol)

    assert outcome.name == pod.name
    assert outcome.seen == shop.fabric.nodes[0].gateway(family)  # not itself: the reply has to come back this way


@FAMILIES
def test_w1_an_endpoint_made_unready_gets_nothing_until_it_is_ready_again(shop: Shop, family: int) -> None:
    pods = shop.fabric.pods[:3]
    address, client = shop.open()[family == 6], shop.clients["pod"]
    shop.endpoints(pods)
    shop.settle()

    shop.endpoints(pods, unready=pods[1:2])
    shop.settle()
    assert reached(client, address, 80, "tcp") == names([pods[0], pods[2]])

    shop.endpoints(pods, unready=pods)
    shop.settle()
    assert connect(client, address, 80, timeout=LIMIT) == Outcome(REFUSED)

    shop.endpoints(pods)
    shop.settle()
    assert reached(client, address, 80, "tcp") == names(pods)


def test_a_service_deleted_and_made_again_answers_at_its_new_address_only(shop: Shop) -> None:
    client = shop.clients["pod"]
    old = shop.open(clusterIPs=["172.30.9.1", "fd00:10:96::901"], clusterIP="172.30.9.1")
    shop.endpoints(shop.fabric.pods)
    shop.settle()

    shop.rest.delete(manifests.service("my-service", []))
    shop.endpoints(shop.fabric.pods)  # the slices stay, as they do in a cluster for a moment
    new = shop.open(clusterIPs=["172.30.9.2", "fd00:10:96::902"], clusterIP="172.30.9.2")
    shop.settle()

    assert set(old).isdisjoint(new)
    for address in new:
        assert reached(client, address, 80, "tcp", 60) <= names(shop.fabric.pods)
    for address in old:
        assert not connect(client, address, 80, timeout=0.3).answered


def rewrite(rest: Rest, endpoints: Sequence[Sequence[Pod]]) -> Object:
    """PUTs one slice again and again; the versions in between are nobody's to keep."""
    found = rest.get("EndpointSlice", "my-service-v4", api="discovery.k8s.io/v1")
    for pods in endpoints:
        body = found | {"endpoints": [manifests.pod_endpoint(pod) for pod in pods]}
        body["metadata"] = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
        found = rest.replace(body)
    return found


def test_fifty_rewrites_of_one_slice_in_a_burst_end_in_the_last_one(shop: Shop) -> None:
    pods = shop.fabric.pods
    address = shop.open()[0]
    shop.endpoints(pods[:1])
    shop.settle()

    last = [pods[4], pods[2]]
    rewrite(shop.rest, [[pods[number % 6], pods[(number + 1 + number % 3) % 6]] for number in range(49)] + [last])
    shop.settle()

    for node in shop.fabric.nodes:
        held = tables.read(node.space).endpoints
        for protocol in ("tcp", "udp"):
            assert held[4, address, protocol, 80] == {(pod.v4, 8080) for pod in last}
    assert reached(shop.clients["pod"], address, 80, "tcp", 60) == names(last)


def test_the_api_server_answers_through_its_own_service(shop: Shop, cluster: Cluster) -> None:
    service = shop.rest.get("Service", "kubernetes")
    cluster_ip = service["spec"]["clusterIP"]
    assert tables.read(shop.fabric.nodes[0].space).endpoints[4, cluster_ip, "tcp", 443] == {(cluster.api.host.v4, 6443)}
