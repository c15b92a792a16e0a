"""Two replicas with the endpoints controllers on a real API server: one works, the other goes on when it is gone.

One that was stopped for longer than its term, and continues, writes nothing of what it had in hand.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.endpoints_cluster import OURS, kubeconfig, listed, made
from tools.lab.client import until
from tools.lab.deltaplane import ControlPlane
from tools.lab.manifests import Object, port, service
from tools.lab.rest import Rest

LEASE = "/apis/coordination.k8s.io/v1/namespaces/deltaplane-system/leases/deltaplane-endpoints"


def pod(rest: Rest, number: int, node: str) -> None:
    meta = {"name": f"relay-{number}", "labels": {"app": "relay"}}
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "none"}]}
    rest.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    ready(rest, number, "True")


def ready(rest: Rest, number: int, status: str) -> None:
    address = f"10.77.0.{number + 1}"
    condition = {"type": "Ready", "status": status}
    said = {"podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
    rest.patch("Pod", f"relay-{number}", {"status": said}, sub="status")


def states(rest: Rest) -> list[list[bool]]:
    mine = [one for one in made(rest, OURS) if one["metadata"]["labels"]["kubernetes.io/service-name"] == "relay"]
    return [sorted(end["conditions"]["ready"] for end in one["endpoints"]) for one in mine]


def holder(rest: Rest) -> str:
    return str(rest.call("GET", LEASE)["spec"]["holderIdentity"])


@contextmanager
def two(cluster: Cluster, folder: Path) -> Iterator[tuple[ControlPlane, ControlPlane]]:
    """Two replicas that do not run yet."""
    source = ("--source=kubernetes", f"--kubeconfig={kubeconfig(cluster, folder)}")
    flags = (*source, "--controllers=endpointslice,endpoints")
    hosts = (cluster.fabric.controlplane, cluster.fabric.apiserver)
    first, second = (ControlPlane(host, folder, *flags, name=f"plane-{n}") for n, host in enumerate(hosts))
    try:
        yield first, second
    finally:
        first.close()
        second.close()


def slices_of(rest: Rest, names: list[str]) -> dict[str, list[str]]:
    """The slices of these Services, each as its name and version."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for one in made(rest, OURS):
        meta = one["metadata"]
        if (name := meta["labels"]["kubernetes.io/service-name"]) in found:
            found[name].append(f"{meta['name']} {meta['resourceVersion']}")
    return {name: sorted(some) for name, some in found.items()}


@pytest.mark.slow
def test_one_that_was_stopped_for_longer_than_its_term_writes_nothing_when_it_continues(
    cluster: Cluster, objects: Rest, tmp_path: Path
) -> None:
    names = [f"held-{number}" for number in range(30)]
    with two(cluster, tmp_path) as (first, second):
        first.start()
        until(lambda: "lease acquired" in first.log.read_text(), 30)
        mine = holder(objects)
        second.start()
        until(lambda: f"holder={mine}" in second.log.read_text(), 30)  # who holds it, and until when
        assert first.process is not None
        first.process.signal(signal.SIGSTOP)
        services = [objects.create(service(name, [port(80)], selector={"app": name})) for name in names]
        try:
            until(lambda: all(slices_of(objects, names).values()), 60)
            there = slices_of(objects, names)
            theirs = holder(objects)
            assert theirs != mine
            said = second.log.read_text()
            assert "the lease's holder does not renew it" in said
            first.process.signal(signal.SIGCONT)
            until(lambda: "lease lost" in first.log.read_text(), 30)
            until(lambda: f"holder={theirs}" in first.log.read_text(), 30)

            assert slices_of(objects, names) == there
            assert Counter(map(len, there.values())) == {1: len(names)}
            assert holder(objects) == theirs
        finally:
            first.process.signal(signal.SIGCONT)
            for each in services:
                objects.delete(each)
            until(lambda: not any(slices_of(objects, names).values()), 30)


def endpoints_of(rest: Rest, word: str) -> list[str]:
    """Names of the Endpoints that speak of this."""
    return [one["metadata"]["name"] for one in listed(rest, "Endpoints", "v1") if word in str(one)]


@pytest.mark.slow
def test_the_other_replica_goes_on_after_a_crash_and_at_once_after_an_orderly_end(
    cluster: Cluster, objects: Rest, tmp_path: Path
) -> None:
    source = ("--source=kubernetes", f"--kubeconfig={kubeconfig(cluster, tmp_path)}")
    flags = (*source, "--controllers=endpointslice,endpoints")
    hosts = (cluster.fabric.controlplane, cluster.fabric.apiserver)
    first, second = (ControlPlane(host, tmp_path, *flags, name=f"plane-{n}") for n, host in enumerate(hosts))
    made_service: Object = service("relay", [port(80)], selector={"app": "relay"})
    try:
        first.start()
        objects.create(made_service)
        for number in range(2):
            pod(objects, number, cluster.fabric.nodes[0].name)
        until(lambda: states(objects) == [[True, True]], 30)
        until(lambda: endpoints_of(objects, "relay") == ["relay"], 30)
        second.start()

        first.kill()
        ready(objects, 0, "False")
        until(lambda: states(objects) == [[False, True]], 60)
        took_over = holder(objects)

        first.start()
        second.stop()
        until(lambda: holder(objects) not in {"", took_over}, 30)
        ready(objects, 0, "True")
        until(lambda: states(objects) == [[True, True]], 30)

        objects.delete(made_service)
        until(lambda: states(objects) == [], 30)
    finally:
        first.close()
        second.close()
        for number in range(2):
            path = f"/api/v1/namespaces/default/pods/relay-{number}"
            objects.call("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
