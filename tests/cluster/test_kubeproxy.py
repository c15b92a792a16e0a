"""The reference: with kube-proxy on the nodes an application is reached over every way there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.shop import Shop
from tools.lab import kubeproxy
from tools.lab.cluster.cluster import Cluster
from tools.lab.rules import wipe


@pytest.fixture(autouse=True)
def kube_proxies(cluster: Cluster) -> Iterator[None]:
    """One on each node, whose kernel has no other's rules; its own go with it."""
    places = cluster.fabric.nodes
    for place in places:
        wipe(place.space)
    running = [kubeproxy.start(place, cluster.api.admin_kubeconfig, cluster.run.folder) for place in places]
    yield
    for process in running:
        process.stop()
    for place in places:
        wipe(place.space)


def test_a_deployment_is_reached_from_pods_and_from_outside_and_by_name(cluster: Cluster, shop: Shop) -> None:
    wanted = shop.names()

    cluster.wait(lambda: shop.served_by(wanted), f"every way leads to {wanted}")

    assert shop.looked_up("echo.default.svc.cluster.local") == set(shop.service["clusterIPs"])
