"""A Pod that ends asks its node when nobody sends to it any more; a new one is Ready once every node reaches it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.gate.pods import GATE, ONLY_GATES
from tests.e2e.conftest import BASE, Cluster
from tests.e2e.shop import SLICE_PORTS, Shop, deployed, names, reached
from tools.lab import manifests
from tools.lab.client import until
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Node, Pod
from tools.lab.manifests import Object, endpoint, endpoint_slice
from tools.lab.netns import Namespace
from tools.lab.rest import Rest
from tools.lab.rules import run

ACCOUNT = "controlplane-with-gate"
GRANTED = frozenset({"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
DRAIN, BOUND = 3, 3  # seconds
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def kubeconfig(cluster: Cluster, folder: Path) -> Path:
    """An account like the control plane's, with what deploy/kustomize/components/readiness-gate grants it."""
    layers = {"resources": BASE, "components": BASE.parent / "components" / "readiness-gate"}
    overlay = {kind: [os.path.relpath(path, folder.resolve())] for kind, path in layers.items()}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    granted = [thing for thing in cluster.api.kustomize(folder) if thing["kind"] in GRANTED]
    cluster.api.grant(json.loads(json.dumps(granted).replace("deltaplane-controlplane", ACCOUNT)))
    return cluster.api.kubeconfig(ACCOUNT, "deltaplane-system")


@pytest.fixture(scope="module")
def line(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The product with /drain on every node, and the readiness gate."""
    folder = tmp_path_factory.mktemp("draining")
    source = ["--source=kubernetes", f"--kubeconfig={kubeconfig(cluster, folder)}"]
    source += ["--readiness-gate", f"--readiness-gate-timeout={BOUND}"]
    flags = ("--drain-listen=0.0.0.0", f"--drain-timeout={DRAIN}s")
    with deployed(cluster.fabric, folder, *source, agent_flags=flags) as deployment:
        yield deployment


@pytest.fixture
def shop(cluster: Cluster, objects: Rest, line: Deployment, servers: EchoServers) -> Iterator[Shop]:
    shop = Shop(objects, line, cluster.fabric)
    shop.open()
    shop.endpoints(shop.fabric.pods)
    shop.settle()
    yield shop
    cluster.delete_services()


def drain(space: Namespace, node: Node, family: int = 4) -> tuple[int, str]:
    """What the node's agent answers to one who asks from this namespace: status and text."""
    at = f"[{node.address(6)}]" if family == 6 else node.address(4)
    said = run(space, "curl", "-sS", "-m", "20", "-w", "\n%{http_code}", f"http://{at}:10259/drain", check=False)
    text, _, status = said.rpartition("\n")
    return int(status), text.strip()


def leave(shop: Shop, leaving: Pod, pods: Sequence[Pod]) -> None:
    """The slices say that one of these Pods terminates."""
    for family in (4, 6):
        found = [
            endpoint(pod.address(family), pod.node, ready=pod != leaving, serving=True, terminating=pod == leaving)
            for pod in pods
        ]
        shop.rest.apply(endpoint_slice("my-service", found, SLICE_PORTS, family=family))


@contextmanager
def stopped(shop: Shop, node: Node) -> Iterator[Any]:
    """The node's agent does not run meanwhile, or until what is given is called."""
    process = shop.line.agents[node.name].process
    assert process is not None
    process.signal(signal.SIGSTOP)
    try:
        yield lambda: process.signal(signal.SIGCONT)
    finally:
        process.signal(signal.SIGCONT)


def asking(pool: ThreadPoolExecutor, space: Namespace, node: Node, family: int) -> Future[tuple[int, str]]:
    return pool.submit(drain, space, node, family)


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


class Gated:
    """A Pod with the gate, of which the test is the kubelet."""

    def __init__(self, shop: Shop, pod: Pod, name: str) -> None:
        self.shop, self.pod, self.name = shop, pod, name
        spec = {"nodeName": pod.node, "containers": [{"name": "a", "image": "a"}]}
        spec |= {"readinessGates": [{"conditionType": GATE}]}
        metadata = {"name": name, "namespace": "default"}
        shop.rest.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def report(self, *, ready: bool, reason: str = ONLY_GATES) -> None:
        """What a kubelet writes: every container is ready; with `ready`, the gate as well."""
        conditions = [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": str(ready)}]
        conditions[1] |= {} if ready else {"reason": reason}
        status = {"phase": "Running", "podIP": self.pod.v4, "podIPs": [{"ip": self.pod.v4}, {"ip": self.pod.v6}]}
        self._patch({"status": status | {"conditions": conditions}})

    def _patch(self, change: Object) -> None:
        path = f"/api/v1/namespaces/default/pods/{self.name}/status"
        self.shop.rest.call("PATCH", path, change, "application/strategic-merge-patch+json")

    @property
    def gate(self) -> Object:
        found = self.shop.rest.get("Pod", self.name)["status"].get("conditions", ())
        return next((each for each in found if each["type"] == GATE), {})

    def events(self) -> list[Object]:
        found = self.shop.rest.call("GET", "/api/v1/namespaces/default/events")["items"]
        return [each for each in found if each["involvedObject"].get("name") == self.name]

    def close(self) -> None:
        path = f"/api/v1/namespaces/default/pods/{self.name}"
        self.shop.rest.call("DELETE", path, {"gracePeriodSeconds": 0})


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
