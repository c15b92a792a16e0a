"""A node goes back to kube-proxy: that starts, then what is Deltaplane's alone goes, and nobody is turned away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.shop import LIMIT, Shop, names, reached
from tests.kernel.load_support import Aim, loaded
from tools.lab import kubeproxy, parts
from tools.lab.client import until
from tools.lab.deltaplane import COMMAND
from tools.lab.netns import Namespace
from tools.lab.rules import run, table, wipe

BACK = (*COMMAND, "agent", "--cleanup", "--beside-kube-proxy")
RATE = 200.0
AROUND = 200  # connections before and after
WHOLE = "kernel has the whole state"
REFUSED = "kube-proxy has no rules on this node"


def handed_back(space: Namespace) -> bool:
    """As the init container of deploy/kustomize/hand-back: it is started again until kube-proxy serves."""
    try:
        return "ip deltaplane" in run(space, *BACK)
    except RuntimeError as error:
        if REFUSED not in str(error):
            raise
        return False


@pytest.mark.parametrize("theirs", ["iptables", pytest.param("nftables", marks=pytest.mark.slow)])
def test_a_node_returns_and_no_connection_fails(cluster: Cluster, shop: Shop, tmp_path: Path, theirs: str) -> None:
    try:
        parts.find("kube-proxy")
    except parts.PartMissing as missing:
        pytest.skip(str(missing))
    agent = shop.line.agents[shop.fabric.nodes[0].name]
    space, client = agent.node.space, agent.node.clients[0].space
    addresses = shop.sell()
    aims: list[Aim] = [(client, address, 80) for address in addresses]

    with loaded(aims, RATE) as load:
        load.more(AROUND)
        agent.stop()
        process = kubeproxy.start(agent.node, cluster.api.admin_kubeconfig, tmp_path, theirs)
        until(lambda: handed_back(space), 2 * LIMIT, what="the way back")
        load.more(AROUND)
    left = table(space) + table(space, "ip6")
    served = reached(client, addresses[0], 80, "tcp")
    process.stop()
    wipe(space)
    agent.start().wait_log(WHOLE)

    assert load.failed == {}
    assert left == ""
    assert served == names(shop.fabric.pods)
