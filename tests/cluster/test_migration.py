"""docs/migrate.md: from kube-proxy to Deltaplane and back, by the page's own commands, while clients connect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import kubeproxy_pods
from tests.cluster.commands import Page, blocks
from tests.cluster.counted import Counted
from tests.cluster.installed import AGENTS, OVERLAYS, REPLICAS, Deltaplane
from tests.cluster.shop import Shop
from tests.cluster.test_chart import left
from tests.cluster.test_uninstall import kernel
from tools.lab import rules
from tools.lab.cluster.cluster import Cluster


def kernels(cluster: Cluster) -> list[dict[str, str]]:
    """What of a proxy each node's kernel has."""
    return [kernel(place.space) for place in cluster.fabric.nodes]


def whose(cluster: Cluster) -> list[str]:
    """Whose rules each node has."""
    return [_whose(found) for found in kernels(cluster)]


def _whose(found: dict[str, str]) -> str:
    ours = ["deltaplane"] if "table ip deltaplane " in found["nft"] else []
    theirs = "table ip kube-proxy " in found["nft"] or any("KUBE-SERVICES" in text for text in found.values())
    return " ".join([*ours, *(["kube-proxy"] if theirs else [])])


@pytest.fixture(scope="module")
def untouched(cluster: Cluster) -> list[dict[str, str]]:
    """What each node's kernel has without a proxy."""
    for place in cluster.fabric.nodes:
        rules.wipe(place.space)
    return kernels(cluster)


@pytest.fixture(scope="module", params=["iptables", "nftables"])
def mode(
    request: pytest.FixtureRequest, cluster: Cluster, shop: Shop, untouched: list[dict[str, str]]
) -> Iterator[str]:
    """kube-proxy serves in this mode, and clients reach every Pod."""
    assert kernels(cluster) == untouched
    with kubeproxy_pods.running(cluster, request.param):
        wanted = shop.names()
        cluster.wait(lambda: shop.served_by(wanted), f"every way leads to {wanted}")
        yield request.param


@pytest.fixture(scope="module")
def page(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(cluster, tmp_path_factory.mktemp("operator"))


def test_the_doctor_reads_the_kube_proxy_of_the_cluster(page: Page, mode: str) -> None:
    said = page.follow("doctor")

    assert "ConfigMap kube-system/kube-proxy" in said
    assert mode in said


def test_a_service_comes_and_goes_beside_kube_proxy(
    cluster: Cluster, shop: Shop, counted: Counted, page: Page, mode: str
) -> None:
    def served() -> list[bool]:
        return [shop.service["clusterIPs"][0] in rules.table(place.space) for place in cluster.fabric.nodes]

    with counted.used(f"beside kube-proxy in {mode} mode"):
        page.follow("beside install", "beside")
        page.follow("beside give", SERVICE="echo")
        given = served()
        page.follow("beside return", SERVICE="echo")
        cluster.wait(lambda: served() == [False, False], "no agent with the Service", 10.0)  # nothing of the page waits
        page.follow("uninstall", "beside")

    assert given == [True, True]
    assert whose(cluster) == ["kube-proxy", "kube-proxy"]


def test_one_node_moves_and_returns(cluster: Cluster, counted: Counted, page: Page, mode: str) -> None:
    node = cluster.nodes[0].name
    with counted.used(f"a node from kube-proxy in {mode} mode and back"):
        page.follow("node prepare", "chosen")
        page.follow("node move", NODE=node)
        cluster.wait(lambda: whose(cluster) == ["deltaplane", "kube-proxy"], "a proxy on each node")
        page.follow("node return", NODE=node)

    assert whose(cluster) == ["kube-proxy", "kube-proxy"]


def test_all_nodes_move_and_return_and_nothing_of_deltaplane_stays(
    cluster: Cluster, counted: Counted, page: Page, mode: str
) -> None:
    with counted.used(f"all nodes from kube-proxy in {mode} mode and back") as rounds:
        for _ in rounds:
            page.follow("all move")
            cluster.wait(lambda: whose(cluster) == ["deltaplane", "deltaplane"], "Deltaplane on each node")
            page.follow("all return")
        page.follow("uninstall", "chosen")

    states = [node.run("find", "/var/lib/deltaplane", "-type", "f").split() for node in cluster.nodes]
    assert whose(cluster) == ["kube-proxy", "kube-proxy"]
    assert states == [[], []]


def test_for_good_versions_change_and_change_back_and_nothing_of_either_proxy_stays(
    cluster: Cluster, counted: Counted, page: Page, mode: str, untouched: list[dict[str, str]]
) -> None:
    seen: list[set[str]] = []
    page.follow("node prepare", "chosen")
    page.follow("all move")
    with counted.used(f"for good, from {mode} mode"):
        page.follow("for good", "nftables")
    with counted.used("an upgrade and a rollback", least=2) as rounds:  # the second finds what the first rollback wrote
        for _ in rounds:
            page.follow("upgrade", "next")
            seen.append(images(cluster))
            page.follow("rollback")
            seen.append(images(cluster))
    with counted.used("a restart of agents and control plane") as rounds:
        for _ in rounds:
            page.follow("restart")
    installed = Deltaplane(cluster)
    installed.overlay = "nftables"
    installed.delete()
    cluster.kubectl("apply", "-k", str(OVERLAYS / "cleanup"))
    cluster.kubectl("-n", "deltaplane-cleanup", "rollout", "status", "daemonset/deltaplane-cleanup", "--timeout=180s")
    cluster.kubectl("delete", "-k", str(OVERLAYS / "cleanup"), "--timeout=180s")
    cluster.kubectl("label", "node", "--all", "deltaplane.dev/proxy-")

    assert seen == [{"next"}, {"test"}] * (len(seen) // 2)
    assert kernels(cluster) == untouched
    assert left(cluster) == []


def images(cluster: Cluster) -> set[str]:
    """The tags of the images that agents and replicas run."""
    found = [pod for name in (AGENTS, REPLICAS) for pod in Deltaplane(cluster).pods(name)]
    return {each["image"].rpartition(":")[2] for pod in found for each in pod["spec"]["containers"]}


def test_every_command_of_the_page_was_run(page: Page, mode: str) -> None:
    assert set(blocks()) <= set(page.ran), mode
