"""10,000 Pods in 100 Services from cold: how many writes, how long; and what one change costs then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.endpoints_cluster import OURS, kubeconfig, made, sizes, versions
from tools.lab.client import until
from tools.lab.deltaplane import ControlPlane
from tools.lab.manifests import Object
from tools.lab.rest import Rest

SERVICES, PODS = 100, 100  # Pods of each
LIMIT = 120.0  # it takes 5 on two cores that do something else too; a busy machine is no failure
NAMESPACE = "cold"


@pytest.fixture
def crowd(cluster: Cluster) -> Iterator[Rest]:
    """The Services and ready Pods; four connections write them."""
    rest = cluster.api.admin
    rest.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for number in range(SERVICES):
        rest.create(service(number))
    nodes = [node.name for node in cluster.fabric.nodes]
    with ThreadPoolExecutor(4) as pool:
        hands = [rest.another() for _ in range(4)]
        list(pool.map(lambda hand: fill(hands[hand], range(hand, SERVICES * PODS, 4), nodes), range(4)))
        for hand in hands:
            hand.close()
    yield rest
    for number in range(SERVICES):
        rest.delete(service(number))


def service(number: int) -> Object:
    meta = {"name": f"s{number}", "namespace": NAMESPACE}
    spec = {"selector": {"app": f"s{number}", "env": "prod"}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def fill(rest: Rest, numbers: range, nodes: list[str]) -> None:
    for number in numbers:
        labels = {"app": f"s{number % SERVICES}", "env": "prod"}
        meta = {"name": f"p{number}", "namespace": NAMESPACE, "labels": labels}
        spec = {"nodeName": nodes[number % len(nodes)], "containers": [{"name": "c", "image": "none"}]}
        rest.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        ready(rest, number, "True")


def ready(rest: Rest, number: int, status: str) -> None:
    address = f"10.{8 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
    condition = {"type": "Ready", "status": status}
    said = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
    rest.patch("Pod", f"p{number}", {"status": said}, namespace=NAMESPACE, sub="status")


def mine(rest: Rest) -> list[Object]:
    return [one for one in made(rest, OURS) if one["metadata"]["namespace"] == NAMESPACE]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_pods_in_a_hundred_services_are_a_hundred_writes_from_cold(
    cluster: Cluster, crowd: Rest, tmp_path: Path
) -> None:
    flags = ("--source=kubernetes", f"--kubeconfig={kubeconfig(cluster, tmp_path)}", "--controllers=endpointslice")
    plane = ControlPlane(cluster.fabric.controlplane, tmp_path, *flags)
    began = time.monotonic()
    plane.start()
    try:
        while len(mine(crowd)) < SERVICES and time.monotonic() - began < LIMIT:
            time.sleep(0.3)  # a look costs the server as much as a tenth of the work
        took = time.monotonic() - began
        print(f"from exec to the last slice: {took:.1f} s")  # noqa: T201 - what a reader of a slow run asks
        assert sizes(mine(crowd)) == {PODS: SERVICES}
        assert {one["metadata"]["generation"] for one in mine(crowd)} == {1}  # each was written once

        before = versions(mine(crowd))
        ready(crowd, 4711, "False")
        until(lambda: versions(mine(crowd)) != before, 30)
        changed = [name for name, version in versions(mine(crowd)).items() if before[name] != version]
        assert len(changed) == 1
    finally:
        plane.close()
