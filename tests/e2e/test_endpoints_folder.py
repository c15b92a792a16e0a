"""Story W15 without a cluster: Services, Pods and a Deployment in a folder, real agents in namespaces, real packets."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from controlplane.endpoints.manifests import ADDRESSES
from tests.e2e.shop import LIMIT, names, reached
from tools.lab import fabric as fabrics
from tools.lab import manifests
from tools.lab.client import REFUSED, connect, until
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod
from tools.lab.manifests import Object, port

V4, V6 = "172.30.0.80", "fd00:10:96::80"


class Folder:
    """The operator's folder, and what its Services do."""

    def __init__(self, fabric: Fabric, line: Deployment, path: Path) -> None:
        self.fabric, self.line, self.path = fabric, line, path

    def write(self, file: str, *things: Object) -> None:
        """Puts the file in place, and waits until every node has what follows from it."""
        with self.line.change():
            manifests.write(self.path / file, *things)

    def remove(self, file: str) -> None:
        with self.line.change():
            (self.path / file).unlink()

    def answering(self, family: int = 4) -> set[str]:
        """Who answers at the Service's address, from a Pod."""
        client = self.fabric.nodes[0].clients[0].space
        return reached(client, V6 if family == 6 else V4, 80, "tcp")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    path = tmp_path / "manifests"
    path.mkdir()
    echo = EchoServers()
    with fabrics.running() as fabric:
        for pod in fabric.pods:
            echo.start_pod(pod)
        manifests.write(path / "nodes.yaml", *(manifests.node_object(node) for node in fabric.nodes))
        source = ("--source=manifests", f"--manifests={path}", "--controllers=endpointslice")
        try:
            with Deployment(fabric, tmp_path / "logs", *source) as line:
                line.start()
                yield Folder(fabric, line, path)
        finally:
            echo.close()


def service(app: str = "nginx") -> Object:
    return manifests.service("web", [port(80, 8080, "web")], [V4, V6], selector={"app": app})


def entry(pod: Pod, word: str = "") -> str:
    return f"{pod.v4} {pod.v6} @{pod.node} {word}"


def deployment(entries: Sequence[str], replicas: int | None = None) -> Object:
    template = {"metadata": {"labels": {"app": "nginx"}}, "spec": {"containers": [{"name": "nginx"}]}}
    spec = {"template": template, **({} if replicas is None else {"replicas": replicas})}
    meta = {"name": "nginx", "annotations": {ADDRESSES: ", ".join(entries)}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def single(pod: Pod, app: str) -> Object:
    """A Pod as kubectl shows it, status and all."""
    status = {"podIPs": [{"ip": pod.v4}, {"ip": pod.v6}], "conditions": [{"type": "Ready", "status": "True"}]}
    meta = {"name": "single", "labels": {"app": app}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": pod.node}, "status": status}


def test_w15_endpoints_follow_selector_and_pods_and_go_with_the_service(folder: Folder) -> None:
    pods = folder.fabric.pods[:3]
    folder.write("service.yaml", service())
    assert connect(folder.fabric.nodes[0].space, V4, 80, timeout=LIMIT).kind == REFUSED

    folder.write("pods.yaml", deployment([entry(pod) for pod in pods], replicas=2))
    assert folder.answering() == folder.answering(6) == names(pods[:2])
    folder.write("pods.yaml", deployment([entry(pod) for pod in pods]))
    assert folder.answering() == names(pods)

    folder.write("pods.yaml", deployment([entry(pods[0], "not-ready"), entry(pods[1]), entry(pods[2])]))
    assert folder.answering() == folder.answering(6) == names(pods[1:])
    folder.write("pods.yaml", deployment([entry(pod) for pod in pods]))
    assert folder.answering() == names(pods)

    other = folder.fabric.pods[3]
    folder.write("single.yaml", single(other, app="nginx"))
    assert folder.answering() == {*names(pods), other.name}
    folder.write("single.yaml", single(other, app="something-else"))
    assert folder.answering() == names(pods)

    folder.write("service.yaml", service("something-else"))
    assert folder.answering() == {other.name}

    folder.remove("service.yaml")
    until(lambda: folder.line.controlplane.status().counts.endpoint_slices == 0, LIMIT)
    folder.write("service.yaml", service())
    assert folder.answering() == names(pods)
