"""Deltaplane beside kube-proxy: each serves its own Services, one moves between them, and nobody is turned away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.shop import LIMIT, SLICE_PORTS, names, reached, until_reached
from tests.kernel.load_support import Aim, loaded
from tools.lab import kubeproxy, manifests, parts
from tools.lab.client import until
from tools.lab.deltaplane import COMMAND, Deployment
from tools.lab.echo import EchoServers
from tools.lab.manifests import port
from tools.lab.netns import Namespace
from tools.lab.process import Process
from tools.lab.rest import Rest
from tools.lab.rules import run, table, wipe

SERVE, NAMED = "deltaplane.dev/serve", "service.kubernetes.io/service-proxy-name"
PORTS = [port(80, 8080, "web")]
RATE = 200.0
AROUND = 100  # connections before and after each step

pytestmark = pytest.mark.slow


SERVICES = "172.30.0.1"  # of the API server, which kube-proxy always has


@dataclass(frozen=True)
class Both:
    """The product, and kube-proxy on each node, in the nodes' order."""

    line: Deployment
    kube_proxies: list[Process]


@pytest.fixture(params=["iptables", pytest.param("nftables", marks=pytest.mark.slow)])
def both(cluster: Cluster, servers: EchoServers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Both]:
    """kube-proxy in this mode on every node, and an agent beside it."""
    try:
        parts.find("kube-proxy")
    except parts.PartMissing as missing:
        pytest.skip(str(missing))
    nodes = cluster.fabric.nodes
    for node in nodes:
        wipe(node.space)
    running = [kubeproxy.start(node, cluster.api.admin_kubeconfig, tmp_path, request.param) for node in nodes]
    source = ("--source=kubernetes", f"--kubeconfig={cluster.kubeconfig}", f"--service-selector={SERVE}=yes")
    flags = ("--beside-kube-proxy", "--nodeport-addresses=primary")
    with Deployment(cluster.fabric, tmp_path, *source, agent_flags=flags) as deployment:
        deployment.start()
        yield Both(deployment, running)
    for process in running:
        process.stop()
    for node in nodes:
        wipe(node.space)


def labelled(rest: Rest, labels: dict[str, str | None]) -> None:
    """Of the Service and, as the endpoints controllers do it, of its slices."""
    metadata = {"metadata": {"labels": labels}}
    rest.patch("Service", "mine", metadata)
    for family in (4, 6):
        rest.patch("EndpointSlice", f"mine-v{family}", metadata, api="discovery.k8s.io/v1")


def theirs(space: Namespace) -> str:
    """kube-proxy's rules, in either mode."""
    return run(space, "iptables-save") + table(space, name="kube-proxy")


def test_a_service_moves_to_deltaplane_and_back_and_the_others_stay(
    cluster: Cluster, objects: Rest, both: Both
) -> None:
    pods, space = cluster.fabric.pods, cluster.fabric.nodes[0].space
    client = cluster.fabric.nodes[0].clients[0].space
    addresses = {}
    for name in ("mine", "other"):
        thing = manifests.service(name, PORTS, ipFamilyPolicy="RequireDualStack")
        addresses[name] = objects.apply(thing)["spec"]["clusterIPs"]
        for part in manifests.slices(name, pods, SLICE_PORTS):
            objects.apply(part)
        for address in addresses[name]:
            until_reached(client, address, 80, "tcp", pods)
    mine = addresses["mine"][0]

    aims: list[Aim] = [(client, address, 80) for both_of in addresses.values() for address in both_of]
    with loaded(aims, RATE) as load:
        load.more(AROUND)
        labelled(objects, {SERVE: "yes"})
        until(lambda: mine in table(space), LIMIT, what="both serve it")
        labelled(objects, {NAMED: "deltaplane"})
        until(lambda: mine not in theirs(space), LIMIT, what="kube-proxy lets it go")
        load.more(AROUND)
        given = [mine in table(node.space) for node in cluster.fabric.nodes]
        labelled(objects, {NAMED: None})
        until(lambda: mine in theirs(space), LIMIT, what="kube-proxy has it again")
        load.more(AROUND)
        labelled(objects, {SERVE: None})
        until(lambda: mine not in table(space), LIMIT, what="Deltaplane lets it go")
        load.more(AROUND)

    assert load.failed == {}
    assert all(given)
    assert addresses["other"][0] not in table(space)
    assert reached(client, addresses["other"][0], 80, "tcp") == names(pods)


def test_what_is_ours_alone_goes_and_only_where_kube_proxy_serves(cluster: Cluster, objects: Rest, both: Both) -> None:
    """`--cleanup --beside-kube-proxy`: the way back of a node."""
    agent = both.line.agents[cluster.fabric.nodes[0].name]
    space = agent.node.space
    agent.stop()
    cleanup = [*COMMAND, "agent", "--cleanup", "--beside-kube-proxy"]

    until(lambda: SERVICES in theirs(space), LIMIT, what="kube-proxy's rules")
    before = table(space)
    said = run(space, *cleanup)
    after = (table(space), SERVICES in theirs(space))
    both.kube_proxies[0].stop()
    wipe(space)
    with pytest.raises(RuntimeError, match="kube-proxy has no rules on this node, so nothing is removed"):
        run(space, *cleanup)

    assert before
    assert "ip deltaplane" in said
    assert after == ("", True)
