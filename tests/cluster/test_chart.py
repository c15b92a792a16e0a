"""The Helm chart in place of the overlays: installed, its mode changed by an upgrade, rolled back, uninstalled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.installed import AGENTS, OVERLAYS, Deltaplane
from tests.cluster.shop import Shop, failed
from tests.cluster.test_uninstall import kernel
from tools.lab import parts, rules
from tools.lab.cluster.cluster import Cluster

CHART = Path(__file__).parents[2] / "deploy" / "chart"
VALUES = {
    "image": {"repository": "deltaplane.dev/cluster/deltaplane", "tag": "test"},
    "clusterCIDRs": ["10.180.0.0/16", "fd00:10:180::/48"],
    "controlPlane": {
        "addresses": ["192.168.0.2", "192.168.0.3"],
        "apiServer": {"host": "198.51.100.2"},  # on a host of its own, as a managed cluster's is
    },
}


class Release(Deltaplane):
    """Its release's record is in kube-system."""

    def helm(self, *arguments: str) -> str:
        """As administrator, from the API server's host. Raises RuntimeError with its complaint."""
        config = f"--kubeconfig={self.cluster.api.folder / 'admin.kubeconfig'}"
        return rules.run(
            self.cluster.api.host.space, str(parts.find("helm")), config, "--namespace=kube-system", *arguments
        )

    def put(self, verb: str, *changes: str) -> str:
        """`helm install` or `helm upgrade`; returns its notes when every agent and replica is ready."""
        values = self.cluster.run.folder / "values.yaml"
        values.write_text(yaml.safe_dump(VALUES))
        said = self.helm(verb, "deltaplane", str(CHART), f"--values={values}", *changes)
        self.rolled()
        return said


@pytest.fixture
def release(cluster: Cluster) -> Iterator[Release]:
    try:
        parts.find("helm")
    except parts.PartMissing as missing:
        pytest.skip(str(missing))
    for place in cluster.fabric.nodes:
        rules.wipe(place.space)
    yield Release(cluster)
    for place in cluster.fabric.nodes:
        rules.wipe(place.space)


def modes(release: Release) -> set[str]:
    """As the agents' Pods are asked for."""
    args = [each for pod in release.pods(AGENTS) for each in pod["spec"]["containers"][0]["args"]]
    return {each.partition("=")[2] for each in args if each.startswith("--proxy-mode=")}


def test_a_release_serves_in_each_mode_and_leaves_nothing(cluster: Cluster, shop: Shop, release: Release) -> None:
    before = [kernel(place.space) for place in cluster.fabric.nodes]

    notes = release.put("install")
    assert "kubectl deltaplane status" in notes
    assert modes(release) == {"nftables"}
    assert shop.served_by(shop.names())

    with shop.used() as used:
        release.put("upgrade", "--set=proxyMode=iptables")
        assert modes(release) == {"iptables"}
        release.helm("rollback", "deltaplane", "1")
        release.rolled()
        assert modes(release) == {"nftables"}
        release.helm("uninstall", "deltaplane", "--wait", "--timeout=180s")
    assert failed(used) == {}
    assert release.workloads() == []

    cluster.kubectl("apply", "-k", str(OVERLAYS / "cleanup"))
    cluster.kubectl("-n", "deltaplane-cleanup", "rollout", "status", "daemonset/deltaplane-cleanup", "--timeout=180s")
    cluster.kubectl("delete", "-k", str(OVERLAYS / "cleanup"), "--timeout=180s")
    assert [kernel(place.space) for place in cluster.fabric.nodes] == before
    assert left(cluster) == []


def left(cluster: Cluster) -> list[str]:
    """What is named after Deltaplane in the API, of every kind that it or its chart makes."""
    kinds = "namespaces,clusterroles,clusterrolebindings,roles,rolebindings,daemonsets,configmaps,secrets,leases"
    found = cluster.kubectl("get", kinds, "--all-namespaces", "-o", "name").split()
    return [name for name in found if "deltaplane" in name]
