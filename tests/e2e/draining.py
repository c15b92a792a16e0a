"""Pods that end and ask their node, and Pods with the readiness gate, in the hands of a test. For end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from controlplane.gate.pods import GATE, ONLY_GATES
from tests.e2e.conftest import BASE, Cluster
from tests.e2e.shop import SLICE_PORTS, Shop
from tools.lab.fabric import Node, Pod
from tools.lab.manifests import Object, endpoint, endpoint_slice
from tools.lab.netns import Namespace
from tools.lab.rules import run

ACCOUNT = "controlplane-with-gate"
GRANTED = frozenset({"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})


def kubeconfig(cluster: Cluster, folder: Path) -> Path:
    """An account like the control plane's, with what deploy/kustomize/components/readiness-gate grants it."""
    layers = {"resources": BASE, "components": BASE.parent / "components" / "readiness-gate"}
    overlay = {kind: [os.path.relpath(path, folder.resolve())] for kind, path in layers.items()}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    granted = [thing for thing in cluster.api.kustomize(folder) if thing["kind"] in GRANTED]
    cluster.api.grant(json.loads(json.dumps(granted).replace("deltaplane-controlplane", ACCOUNT)))
    return cluster.api.kubeconfig(ACCOUNT, "deltaplane-system")


def drain(space: Namespace, node: Node, family: int = 4) -> tuple[int, str]:
    """What the node's agent answers to one who asks from this namespace: status and text."""
    at = f"[{node.address(6)}]" if family == 6 else node.address(4)
    said = run(space, "curl", "-sS", "-m", "80", "-w", "\n%{http_code}", f"http://{at}:10259/drain", check=False)
    text, _, status = said.rpartition("\n")
    return int(status), text.strip()


def figures(space: Namespace, port: int) -> dict[str, float]:
    """What the metrics page on this port of loopback shows, by name with labels."""
    said = run(space, "curl", "-sS", f"http://127.0.0.1:{port}/metrics")
    lines = (line.rpartition(" ") for line in said.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


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
