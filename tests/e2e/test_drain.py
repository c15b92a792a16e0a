"""A Pod that ends asks its node when nobody sends to it any more; a new one is Ready once every node reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.draining import Gated, asking, drain, figures, kubeconfig, leave, stopped
from tests.e2e.shop import SLICE_PORTS, Shop, deployed, names, reached
from tools.lab import manifests
from tools.lab.client import until
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.rest import Rest

DRAIN, BOUND = 3, 3  # seconds
FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture(scope="module")
def line(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The product with /drain on every node, and the readiness gate."""
    folder = tmp_path_factory.mktemp("draining")
    source = ["--source=kubernetes", f"--kubeconfig={kubeconfig(cluster, folder)}"]
    source += ["--readiness-gate", f"--readiness-gate-timeout={BOUND}", "--metrics-listen=127.0.0.1:50053"]
    flags = ("--drain-listen=0.0.0.0", f"--drain-timeout={DRAIN}s")
    with deployed(cluster.fabric, folder, *source, agent_flags=flags) as deployment:
        yield deployment


@pytest.fixture
def shop(cluster: Cluster, objects: Rest, line: Deployment, servers: EchoServers) -> Iterator[Shop]:
    shop = Shop(objects, line, cluster.fabric)
    shop.sell()
    yield shop
    cluster.delete_services()


@FAMILIES
def test_a_pod_that_ends_is_answered_when_the_last_nodes_kernel_has_let_go_of_it(shop: Shop, family: int) -> None:
    pods, late = shop.fabric.pods, shop.fabric.nodes[-1]
    leaving = pods[0]
    node = shop.fabric.node(leaving.node)
    with ThreadPoolExecutor() as pool, stopped(shop, late) as go_on:
        answer = asking(pool, leaving.space, node, family)  # a hook begins before any slice has changed
        leave(shop, leaving, pods)
        with pytest.raises(TimeoutError):
            answer.result(1.0)
        go_on()
        status, text = answer.result(20)

    assert status == 200, text
    assert text.startswith(f"{leaving.address(family)} gets no new connections from any of 3 nodes, after ")
    address = shop.rest.get("Service", "my-service")["spec"]["clusterIPs"][0]
    for each in shop.fabric.nodes:
        assert reached(each.clients[0].space, address, 80, "tcp") == names(pods) - {leaving.name}


def test_a_node_that_is_late_is_named_after_the_bound(shop: Shop) -> None:
    pods, late = shop.fabric.pods, shop.fabric.nodes[-1]
    with stopped(shop, late):
        leave(shop, pods[0], pods)
        status, text = drain(pods[0].space, shop.fabric.node(pods[0].node))

    assert status == 504
    assert f"node {late.name}: " in text
    assert text.startswith(f"{pods[0].v4} may still get new connections, after ")


def test_a_pod_that_does_not_end_is_told_which_service_sends_to_it(shop: Shop) -> None:
    pod = shop.fabric.pods[0]
    status, text = drain(pod.space, shop.fabric.node(pod.node))
    assert status == 504
    assert "Service default/my-service still sends to it: it is ready" in text


def test_what_became_of_questions_is_on_the_agents_page(shop: Shop) -> None:
    pod = shop.fabric.pods[0]
    node = shop.fabric.node(pod.node)
    before = figures(node.space, 10249)
    drain(pod.space, node)
    drain(node.space, node)
    after = figures(node.space, 10249)
    counted = {name: after[name] - before[name] for name in after if name.startswith("deltaplane_drain_requests_total")}
    assert {name.split('"')[1]: number for name, number in counted.items() if number} == {"still": 1, "refused": 1}
    assert after["deltaplane_drain_seconds_count"] == before["deltaplane_drain_seconds_count"] + 1


@FAMILIES
def test_a_pod_asks_for_itself_alone_and_its_own_node_alone(shop: Shop, family: int) -> None:
    pod, other = shop.fabric.pods[0], shop.fabric.nodes[-1]
    assert pod.node != other.name
    status, text = drain(pod.space, other, family)
    assert (status, text) == (
        403, f"{pod.address(family)} is an endpoint on node {pod.node}: ask the agent of that node",
    )  # fmt: skip


@FAMILIES
def test_the_hosts_network_and_the_world_outside_get_no_answer(shop: Shop, family: int) -> None:
    node = shop.fabric.nodes[0]
    status, text = drain(node.space, node, family)
    assert status == 403
    assert "this node's own address, which hostNetwork Pods, the kubelet and every process of the node have" in text
    outside = shop.fabric.outside[0]
    status, text = drain(outside.space, node, family)
    assert status == 403
    assert text.startswith(f"{outside.address(family)} is no endpoint, and not in the Pods' ranges ")


# ------------------------------------------------------------ the gate


@pytest.fixture
def gated(shop: Shop, request: pytest.FixtureRequest) -> Iterator[Gated]:
    """The last of the Pods; its endpoint is not ready, since its gate is not."""
    pod = shop.fabric.pods[-1]
    for part in manifests.slices("my-service", shop.fabric.pods, SLICE_PORTS, unready=[pod]):
        shop.rest.apply(part)
    made = Gated(shop, pod, f"gated-{abs(hash(request.node.name)) % 10_000}")
    yield made
    made.close()


def test_the_gate_is_set_when_every_node_sends_to_the_pod_though_it_is_not_ready_yet(shop: Shop, gated: Gated) -> None:
    address = shop.rest.get("Service", "my-service")["spec"]["clusterIPs"][0]
    late = shop.fabric.nodes[0]
    with stopped(shop, late) as go_on:
        gated.report(ready=False)
        until(lambda: gated.pod.name in reached(shop.fabric.nodes[1].clients[0].space, address, 80, "tcp"), 20)
        assert gated.gate == {}
        go_on()
        until(lambda: gated.gate.get("status") == "True", 20, what=lambda: gated.gate)
    assert gated.gate["reason"] == "Programmed"
    for node in shop.fabric.nodes:
        assert gated.pod.name in reached(node.clients[0].space, address, 80, "tcp")

    shown = figures(shop.fabric.controlplane.space, 50053)
    assert shown['deltaplane_gate_pods_set_total{reason="Programmed"}'] >= 1
    assert shown['deltaplane_lease_held{lease="deltaplane-readiness-gate"}'] == 1

    gated.report(ready=True)
    before = shop.line.controlplane.head()
    for part in manifests.slices("my-service", shop.fabric.pods, SLICE_PORTS):
        shop.rest.apply(part)  # what the endpoints controller says now is what the nodes have
    shop.line.wait_applied()
    assert shop.line.controlplane.head() == before


def test_a_node_that_is_stuck_is_left_out_after_the_bound_and_named_in_an_event(shop: Shop, gated: Gated) -> None:
    stuck = shop.fabric.nodes[0]
    with stopped(shop, stuck):
        gated.report(ready=False)
        until(lambda: gated.gate.get("status") == "True", 40, what=lambda: gated.gate)
        until(gated.events, 30)
    assert gated.gate["reason"] == "NodesLeftOut"
    (told,) = gated.events()
    assert f"left out: {stuck.name} (" in told["message"]


def test_a_pod_whose_containers_are_not_ready_is_not_sent_to(shop: Shop, gated: Gated) -> None:
    address = shop.rest.get("Service", "my-service")["spec"]["clusterIPs"][0]
    gated.report(ready=False)
    client = shop.fabric.nodes[0].clients[0].space
    until(lambda: gated.pod.name in reached(client, address, 80, "tcp"), 20)
    gated.report(ready=False, reason="ContainersNotReady")
    until(lambda: gated.pod.name not in reached(client, address, 80, "tcp"), 20)
