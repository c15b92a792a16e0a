"""Deltaplane in place of kube-proxy, by `kubectl apply -k`: ready, reached, rolled under connections, gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.counted import Counted
from tests.cluster.installed import AGENTS, REPLICAS, Deltaplane
from tests.cluster.shop import Shop, failed
from tools.lab import rules
from tools.lab.cluster import pods
from tools.lab.cluster.cluster import Cluster
from tools.lab.manifests import Object
from tools.lab.netns import Namespace

NET_ADMIN = 1 << 12  # linux/capability.h
NET_RAW = 1 << 13


def status(pod: Object, program: str) -> dict[str, str]:
    """/proc/PID/status of the Pod's process that runs this program of ours."""
    for pid in pods.processes(pod):
        if program in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            return {"pid": str(pid)} | {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    raise LookupError(f"{pod['metadata']['name']} runs no {program}")


def read_only(pid: str) -> bool:
    """Whether the process's root file system is."""
    mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
    return any(words[1] == "/" and "ro" in words[3].split(",") for words in mounts)


def test_agents_and_replicas_are_ready_on_both_nodes(cluster: Cluster, deltaplane: Deltaplane) -> None:
    nodes = {node.name for node in cluster.nodes}

    assert {pod["spec"]["nodeName"] for pod in deltaplane.pods(AGENTS)} == nodes
    assert {pod["spec"]["nodeName"] for pod in deltaplane.pods(REPLICAS)} == nodes


def test_a_service_is_reached_from_pods_and_from_outside_and_by_name(
    cluster: Cluster, deltaplane: Deltaplane, shop: Shop
) -> None:
    wanted = shop.names()

    cluster.wait(lambda: shop.served_by(wanted), f"every way leads to {wanted}")

    assert shop.looked_up("echo.default.svc.cluster.local") == set(shop.service["clusterIPs"])


def test_an_agent_has_net_admin_alone_and_a_replica_nothing_and_neither_writes_to_its_root(
    deltaplane: Deltaplane,
) -> None:
    agents = [status(pod, "agent") for pod in deltaplane.pods(AGENTS)]
    replicas = [status(pod, "controlplane") for pod in deltaplane.pods(REPLICAS)]

    assert [int(agent["CapEff"], 16) for agent in agents] == [NET_ADMIN] * 2
    assert [int(replica["CapEff"], 16) for replica in replicas] == [0] * 2
    assert all(read_only(process["pid"]) for process in [*agents, *replicas])
    assert all(process["NoNewPrivs"] == "1" for process in [*agents, *replicas])


@pytest.mark.parametrize("keep", [False, True], ids=["new connections", "kept connections"])
@pytest.mark.parametrize("name", [AGENTS, REPLICAS])
def test_a_restart_by_rollout_fails_no_connection(deltaplane: Deltaplane, shop: Shop, name: str, *, keep: bool) -> None:
    before = {pod["metadata"]["name"] for pod in deltaplane.pods(name)}

    with shop.used(keep=keep) as used:
        deltaplane.restart(name)

    assert failed(used) == {}
    assert before.isdisjoint(pod["metadata"]["name"] for pod in deltaplane.pods(name))


def test_a_rollout_of_the_backends_fails_no_new_connection(
    cluster: Cluster, deltaplane: Deltaplane, shop: Shop
) -> None:
    before = shop.names()

    with shop.used() as used:
        cluster.kubectl("rollout", "restart", "deployment/echo")
        cluster.kubectl("rollout", "status", "deployment/echo", "--timeout=300s")
        after = shop.names() - before
        cluster.wait(lambda: shop.served_by(after), f"every way leads to {after}")

    assert failed(used) == {}


def test_the_mode_changes_by_rollout_and_back_without_a_failed_connection(
    cluster: Cluster, deltaplane: Deltaplane, counted: Counted
) -> None:
    found: list[list[str]] = []
    with counted.used("a change of mode to iptables and back") as rounds:
        for _ in rounds:
            for mode in ("iptables", "nftables"):
                deltaplane.apply(mode)
                found.append([modes(place.space) for place in cluster.fabric.nodes])

    assert found == [["iptables"] * 2, ["nftables"] * 2] * (len(found) // 2)


def modes(space: Namespace) -> str:
    """Whose rules are in the kernel: the names of the modes, in the order of the alphabet."""
    saved = [rules.run(space, f"{kind}-save") for kind in ("iptables-nft", "iptables-legacy")]
    found = ["iptables"] if any("KUBE-SERVICES" in text for text in saved) else []
    return " ".join(found + (["nftables"] if rules.table(space) else []))
