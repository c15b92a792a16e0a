"""Fixtures of the end-to-end tests: one network with a real API server per run, and the product on it.

`cluster` is the API server with the nodes registered and the roles of deploy/kustomize/base granted; `objects` a
cluster without Services, cleaned after the test; `line` the control plane and three agents under exactly that
ServiceAccount; `shop` all of these in the hands of an operator. The modules that take this `line` run one after the
other and share it; those that start a product of their own come after them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.shop import Shop, deployed
from tests.e2e.standing import Standing, modules, shares
from tools.lab import fabric as fabrics
from tools.lab.apiserver import ApiServer
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.jaeger import Jaeger
from tools.lab.manifests import Object, node_object
from tools.lab.parts import PartMissing
from tools.lab.rest import Rest, path_to

HERE = Path(__file__).parent
BASE = HERE.parents[1] / "deploy" / "kustomize" / "base"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that share the product first; otherwise the order is kept, which is a random one."""
    places = [number for number, item in enumerate(items) if item.path.is_relative_to(HERE)]
    own = [items[number] for number in places]
    sharing = modules(own)
    for number, item in zip(places, sorted(own, key=lambda item: item.path not in sharing), strict=True):
        item.add_marker(pytest.mark.e2e)
        items[number] = item


standing = Standing()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    standing.goes_on = shares(nextitem)


@dataclass(frozen=True)
class Cluster:
    """The network, the API server on it and the kubeconfig of the control plane's ServiceAccount."""

    fabric: Fabric
    api: ApiServer
    folder: Path
    kubeconfig: Path

    def delete_services(self) -> None:
        """Deletes every Service and slice but those of the API server itself."""
        for version, kind in (("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice")):
            for item in self.api.admin.call("GET", path_to(version, kind))["items"]:
                if item["metadata"]["name"] != "kubernetes":
                    self.api.admin.delete({"apiVersion": version, "kind": kind, "metadata": item["metadata"]})


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd and kube-apiserver in a namespace of their own, beside the network of tools/lab/fabric.py."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    folder = tmp_path_factory.mktemp("cluster")
    with fabrics.running() as fabric:
        try:
            api = ApiServer(fabric.apiserver, folder)
        except PartMissing as missing:
            pytest.skip(str(missing))
        try:
            api.start()
            for node in fabric.nodes:
                api.admin.apply_node(node_object(node))
            objects = api.kustomize(BASE)
            api.grant(objects)
            yield Cluster(fabric, api, folder, _kubeconfig(api, objects))
        finally:
            api.close()


def _kubeconfig(api: ApiServer, objects: list[Object]) -> Path:
    """The identity the control plane runs under, whatever it is called there."""
    workload = next(thing for thing in objects if _key(thing) == ("DaemonSet", "deltaplane-controlplane"))
    account = workload["spec"]["template"]["spec"]["serviceAccountName"]
    return api.kubeconfig(account, workload["metadata"]["namespace"])


def _key(thing: Object) -> tuple[str, str]:
    return thing["kind"], thing["metadata"]["name"]


@pytest.fixture
def objects(cluster: Cluster) -> Iterator[Rest]:
    """Writes as administrator into a cluster without Services; what the test made is deleted after it."""
    cluster.delete_services()
    yield cluster.api.admin
    cluster.delete_services()


@pytest.fixture(scope="session")
def servers(cluster: Cluster) -> Iterator[EchoServers]:
    """Every server pod answers on TCP and UDP port 8080 in both families."""
    echo = EchoServers()
    for pod in cluster.fabric.pods:
        echo.start_pod(pod)
    yield echo
    echo.close()


@pytest.fixture(scope="session")
def jaeger(cluster: Cluster) -> Iterator[Jaeger]:
    """Takes OTLP at `jaeger.otlp` on the API server's host; `jaeger.traces(service)` asks its query API."""
    try:
        running = Jaeger(cluster.fabric.apiserver, cluster.folder)
    except PartMissing as missing:
        pytest.skip(str(missing))
    yield running
    running.close()


@pytest.fixture(scope="module")
def line(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The product: a control plane on the real API, an agent per node. Kernels are clean before and after all of it."""
    source = ("--source=kubernetes", f"--kubeconfig={cluster.kubeconfig}")
    yield standing.line(lambda: deployed(cluster.fabric, tmp_path_factory.mktemp("line"), *source))
    standing.leave()


@pytest.fixture
def shop(cluster: Cluster, objects: Rest, line: Deployment, servers: EchoServers) -> Iterator[Shop]:
    """A cluster without Services but the API server's own; at the end every kernel is back to that too."""
    shop = Shop(objects, line, cluster.fabric)
    shop.settle()
    yield shop
    cluster.delete_services()
    shop.settle()
