"""One, two, three and five control-plane nodes: what real controllers make of the manifests, and a drain of each node.

No kubelet runs: the test binds the pods that the DaemonSet's controller made, and says of each that it is ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Cluster
from tests.e2e.test_deploy import KUSTOMIZE, NAMESPACE
from tools.lab import parts
from tools.lab.manifests import Object
from tools.lab.parts import PartMissing
from tools.lab.process import Process

NAME = "deltaplane-controlplane"
PATIENCE = 90.0
SELECTED = ("-n", NAMESPACE, "-l", f"app.kubernetes.io/name={NAME}")


class Nodes:
    """Control-plane nodes of the test, and what kubelets there would do with pods of the control plane."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.names = [f"plane-{index}" for index in range(number)]
        for name in self.names:
            labels = {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/hostname": name}
            taints = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
            metadata = {"name": name, "labels": labels}
            cluster.api.admin.apply(
                {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": taints}}
            )
            ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"pods": "10"}}
            cluster.api.admin.patch("Node", name, {"status": ready}, sub="status")

    def pods(self) -> list[Object]:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/name={NAME}"
        found: list[Object] = self.cluster.api.admin.call("GET", path)["items"]
        return found

    def kubelets(self) -> None:
        """Each pod goes to the node that its DaemonSet means, is ready there, and ends when it is told to."""
        for pod in self.pods():
            name = pod["metadata"]["name"]
            path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
            if "deletionTimestamp" in pod["metadata"]:
                self.cluster.api.admin.call("DELETE", path, {"gracePeriodSeconds": 0})
            elif not pod["spec"].get("nodeName"):
                target = {"apiVersion": "v1", "kind": "Node", "name": meant(pod)}
                body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
                self.cluster.api.admin.call("POST", f"{path}/binding", body)
            elif not pod["status"].get("conditions") or pod["status"].get("phase") != "Running":
                ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                self.cluster.api.admin.patch("Pod", name, {"status": ready}, namespace=NAMESPACE, sub="status")

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, self.cluster.api.kubectl("describe", "daemonset", "-n", NAMESPACE, NAME)
            self.kubelets()
            time.sleep(0.1)

    def rolled_out(self) -> bool:
        """As `kubectl rollout status` has it."""
        found = self.cluster.api.admin.get("DaemonSet", NAME, NAMESPACE, "apps/v1")
        status, wanted = found.get("status", {}), len(self.names)
        counts = (
            status.get("desiredNumberScheduled"),
            status.get("updatedNumberScheduled"),
            status.get("numberAvailable"),
        )
        return status.get("observedGeneration") == found["metadata"]["generation"] and counts == (wanted,) * 3

    def close(self) -> None:
        self.cluster.api.kubectl("delete", "daemonset", "-n", NAMESPACE, NAME, "--cascade=background")
        self.cluster.api.kubectl("delete", "pods", *SELECTED, "--force", "--grace-period=0")
        self.cluster.api.kubectl("delete", "nodes", *self.names)


def meant(pod: Object) -> str:
    """The node that the DaemonSet's controller made the pod for."""
    affinity = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (name,) = affinity["nodeSelectorTerms"][0]["matchFields"][0]["values"]
    return str(name)


@pytest.fixture(scope="module")
def controllers(cluster: Cluster) -> Iterator[None]:
    """The real controllers of DaemonSets and of disruption budgets."""
    try:
        program = parts.find("kube-controller-manager")
    except PartMissing as missing:
        pytest.skip(str(missing))
    log = Path(cluster.folder) / "kube-controller-manager.log"
    command: list[str | Path] = [
        program, f"--kubeconfig={cluster.api.admin_kubeconfig}", "--leader-elect=false", "--secure-port=0",
        "--controllers=daemonset-controller,disruption-controller",
    ]  # fmt: skip
    process = Process("kube-controller-manager", command, log, cluster.api.host.space)
    yield
    process.stop()


@pytest.fixture(params=[1, 3, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 5))])
def nodes(request: pytest.FixtureRequest, cluster: Cluster, controllers: None) -> Iterator[Nodes]:
    made = Nodes(cluster, request.param)
    rendered = cluster.api.kubectl("kustomize", str(KUSTOMIZE / "example"))
    chosen = [each for each in yaml.safe_load_all(rendered) if each["metadata"]["name"] == NAME
              and each["kind"] in {"DaemonSet", "Deployment", "PodDisruptionBudget", "ServiceAccount"}]  # fmt: skip
    cluster.api.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(chosen))
    yield made
    made.close()


def test_each_control_plane_node_has_a_replica_rollouts_end_and_every_node_can_be_drained(nodes: Nodes) -> None:
    nodes.until(nodes.rolled_out)
    assert sorted(pod["spec"]["nodeName"] for pod in nodes.pods()) == nodes.names

    nodes.cluster.api.kubectl("rollout", "restart", "daemonset", "-n", NAMESPACE, NAME)
    nodes.until(nodes.rolled_out)
    assert sorted(pod["spec"]["nodeName"] for pod in nodes.pods()) == nodes.names

    for name in nodes.names:
        nodes.cluster.api.kubectl("drain", name, "--ignore-daemonsets", "--timeout=30s")
        nodes.kubelets()
        assert sorted(pod["spec"]["nodeName"] for pod in nodes.pods()) == nodes.names
        nodes.cluster.api.kubectl("uncordon", name)
