"""Two replicas that find each other by their headless Service at a real API server, and are asked and spread over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.endpoints_cluster import kubeconfig
from tools.lab.client import until
from tools.lab.deltaplane import PORT, ControlPlane
from tools.lab.fabric import Host
from tools.lab.manifests import Object
from tools.lab.rest import Rest

NAME = "replicas-of-deltaplane"


def service_and_slice(hosts: list[Host]) -> tuple[Object, Object]:
    """As the base has them, of the addresses of these hosts."""
    made: Object = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"clusterIP": "None", "ports": [{"name": "grpc", "port": PORT}]},
    }  # fmt: skip
    labels = {"kubernetes.io/service-name": NAME}
    piece: Object = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{NAME}-abc", "namespace": "default", "labels": labels},
        "ports": [{"name": "grpc", "port": PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [host.v4]} for host in hosts],
    }  # fmt: skip
    return made, piece


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_replicas_find_each_other_and_each_says_which_one_is_away(
    cluster: Cluster, objects: Rest, tmp_path: Path
) -> None:
    hosts = [cluster.fabric.controlplane, cluster.fabric.apiserver]
    file = kubeconfig(cluster, tmp_path)
    planes = [
        ControlPlane(
            host, tmp_path, "--source=kubernetes", f"--kubeconfig={file}", f"--replicas=service:default/{NAME}",
            f"--advertise={host.v4}:{PORT}", name=f"plane-{number}",
        )
        for number, host in enumerate(hosts)
    ]  # fmt: skip
    things = [objects.create(thing) for thing in service_and_slice(hosts)]
    places = sorted(plane.address for plane in planes)
    first, second = planes
    try:
        for plane in planes:
            plane.start()
        for plane in planes:
            until(lambda plane=plane: f"reached={','.join(places)} " in said(plane), 40)  # type: ignore[misc]
            assert sorted(each.address for each in plane.status().replicas) == ["", other(planes, plane).address]
            assert not any(each.error for each in plane.status().replicas)

        second.kill()
        until(lambda: f"away={second.address}" in said(first), 40)
        assert f"no agent can be sent to a replica replica={second.address}" in said(first)
        (lost,) = [each for each in first.status().replicas if each.address]
        assert (lost.address, bool(lost.error)) == (second.address, True)
        second.start()
        until(lambda: said(first).rpartition("replicas reached=")[2].startswith(",".join(places)), 40)
    finally:
        for plane in planes:
            plane.close()
        for thing in things:
            objects.delete(thing)


def said(plane: ControlPlane) -> str:
    return plane.log.read_text()


def other(planes: list[ControlPlane], plane: ControlPlane) -> ControlPlane:
    return next(each for each in planes if each is not plane)
