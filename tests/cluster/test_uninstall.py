"""The way back: after `kubectl delete -k` the rules serve on, and the cleanup of deploy/kustomize takes them away."""

from __future__ import annotations

import re

import pytest

from tests.cluster.installed import OVERLAYS, Deltaplane
from tests.cluster.shop import Shop, failed
from tools.lab import rules
from tools.lab.cluster.cluster import Cluster
from tools.lab.netns import Namespace


def kernel(space: Namespace) -> dict[str, str]:
    """What of a proxy a node's kernel has: rule sets of every kind, IPVS links; without counters and comments."""
    found = {"nft": rules.nft(space, "list", "ruleset"), "links": rules.run(space, "ip", "-o", "link", "show")}
    found |= {
        f"{tool}-{kind}": rules.run(space, f"{tool}-{kind}-save")
        for tool in ("iptables", "ip6tables")
        for kind in ("nft", "legacy")
    }
    return {name: re.sub(r"\[\d+:\d+\]|(?m:^#.*$)|veth\w+", "", text) for name, text in found.items()}


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_nothing_is_left_in_the_kernels_after_delete_and_cleanup(cluster: Cluster, shop: Shop, mode: str) -> None:
    spaces = [place.space for place in cluster.fabric.nodes]
    for space in spaces:
        rules.wipe(space)
    before = [kernel(space) for space in spaces]
    installed = Deltaplane(cluster)

    installed.apply(mode)
    serving = [kernel(space) for space in spaces]
    with shop.used() as used:
        installed.delete()
    cluster.kubectl("apply", "-k", str(OVERLAYS / "cleanup"))
    cluster.kubectl("-n", "deltaplane-cleanup", "rollout", "status", "daemonset/deltaplane-cleanup", "--timeout=180s")
    states = [node.run("find", "/var/lib/deltaplane", "-type", "f").split() for node in cluster.nodes]
    cluster.kubectl("delete", "-k", str(OVERLAYS / "cleanup"), "--timeout=180s")

    assert failed(used) == {}
    assert [kernel(space) for space in spaces] == before != serving
    assert states == [[], []]
