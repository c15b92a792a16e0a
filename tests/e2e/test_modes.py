"""A mode that cannot work on a node: another is taken, and everybody who should know is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deltaplane.v1 import inspection_pb2 as inspection
from tests.e2e.conftest import Cluster
from tests.e2e.shop import LIMIT, Shop, names, reached, until_reached
from tests.kernel.load_support import Aim, loaded
from tests.kernel.modes_support import listing
from tools.lab import kubeproxy, parts
from tools.lab.client import until
from tools.lab.deltaplane import Agent
from tools.lab.netns import Namespace
from tools.lab.rest import Rest
from tools.lab.rules import run, wipe

WHOLE = "kernel has the whole state"
GUARD = "127.0.0.0/8"  # in a chain that is the kubelet's as well
METRICS = "127.0.0.1:10249"
SEEN = re.compile(r"(?m)^deltaplane_proxy_mode_fallback\{(.*)\} (\S+)$")


@pytest.fixture
def agent(shop: Shop) -> Iterator[Agent]:
    """One on the first node, where the usual one runs again after the test."""
    usual = shop.line.agents[shop.fabric.nodes[0].name]
    usual.stop()
    agent = another(shop)
    yield agent
    agent.stop()
    wipe(agent.node.space)
    usual.start().wait_log(WHOLE)
    shop.settle()


def another(shop: Shop, *flags: str) -> Agent:
    usual = shop.line.agents[shop.fabric.nodes[0].name]
    where = usual.log.parent
    return Agent(usual.node, shop.line.controlplane.address, where, "--nodeport-addresses=primary", *flags)


def events(rest: Rest, node: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rest.call("GET", "/api/v1/namespaces/default/events")["items"]
    return [one for one in found if one["involvedObject"]["name"] == node and one["reason"] == "ProxyModeFallback"]


def page(agent: Agent, path: str) -> str:
    return run(agent.node.space, "curl", "-s", f"http://{METRICS}/{path}")


def test_a_mode_that_cannot_work_is_replaced_and_everybody_is_told(shop: Shop, agent: Agent) -> None:
    """No ip_vs in this kernel: the log, the Node's Events, the metrics, /proxyMode and ListNodes say what and why."""
    if Path("/proc/net/ip_vs").exists():
        pytest.skip("this kernel has ip_vs")
    name = agent.node.name
    before = {one["metadata"]["name"] for one in events(shop.rest, name)}
    agent.mode = "ipvs"
    process = agent.start()
    process.wait_log("proxy mode ipvs cannot work here: mode nftables is in use")
    shop.settle()

    until(lambda: len(events(shop.rest, name)) > len(before), 20, what="an Event")
    (event,) = [one for one in events(shop.rest, name) if one["metadata"]["name"] not in before]
    assert event["type"] == "Warning"
    assert event["message"].startswith("proxy mode ipvs cannot work here, mode nftables is in use: ipvs: ")
    assert page(agent, "proxyMode") == "nftables"
    assert json.loads(page(agent, "configz"))["kubeproxy.config.k8s.io"]["mode"] == "nftables"
    assert SEEN.findall(page(agent, "metrics")) == [('asked="ipvs",mode="nftables"', "1.0")]
    shop.line.controlplane.wait_applied([name])
    node = shop.line.controlplane.nodes()[name]
    assert (node.state, node.proxy_mode, node.proxy_mode_asked) == (inspection.NODE_STATE_LIVE, "nftables", "ipvs")
    assert node.proxy_mode_reason.startswith("ipvs: ")
    assert len([line for line in process.output().splitlines() if "cannot work here" in line]) == 1


@pytest.mark.usefixtures("agent")
def test_a_strict_agent_ends_instead(shop: Shop) -> None:
    if Path("/proc/net/ip_vs").exists():
        pytest.skip("this kernel has ip_vs")
    strict = another(shop, "--strict-mode")
    strict.mode = "ipvs"
    process = strict.start()

    assert process.wait_end() == 1
    (line,) = process.output().splitlines()
    assert line.startswith("deltaplane agent: ipvs: ")


def test_auto_takes_the_best_and_says_nothing_of_a_fallback(shop: Shop, agent: Agent) -> None:
    agent.mode = "auto"
    agent.start()
    address = shop.sell()[0]
    assert reached(shop.clients["pod"], address, 80, "tcp") == names(shop.fabric.pods)
    assert page(agent, "proxyMode") == "nftables"
    assert SEEN.findall(page(agent, "metrics")) == [('asked="auto",mode="nftables"', "0.0")]


CHANGES = [("iptables", "nftables"), ("nftables", "iptables")]
SAME = [("nftables", "nftables"), ("iptables", "iptables")]


@pytest.mark.parametrize(
    "change",
    [
        *(pytest.param(pair, id=" to ".join(pair)) for pair in CHANGES),
        *(pytest.param(pair, id=" to ".join(pair), marks=pytest.mark.slow) for pair in SAME),
    ],
)
def test_it_takes_over_from_kube_proxy_and_nothing_of_that_is_left(
    cluster: Cluster, shop: Shop, agent: Agent, tmp_path: Path, change: tuple[str, str]
) -> None:
    """Clients that connect meanwhile do not notice, and the kernel is as after a first start."""
    _needs_kube_proxy()
    theirs, ours = change
    space, client = agent.node.space, agent.node.clients[0].space
    wipe(space)
    addresses = shop.open()
    shop.endpoints(shop.fabric.pods)
    agent.mode = ours
    agent.start().wait_log(WHOLE)
    shop.line.controlplane.wait_applied([agent.node.name])
    fresh = listing(space)
    agent.stop()
    wipe(space)

    process = kubeproxy.start(agent.node, cluster.api.admin_kubeconfig, tmp_path, theirs)
    aims: list[Aim] = [(client, address, 80) for address in addresses]
    for _, address, port in aims:
        until_reached(client, address, port, "tcp", shop.fabric.pods)
    process.stop()
    with loaded(aims, 200) as load:
        load.more(50)
        agent.start().wait_log(WHOLE)
        # What kube-proxy left goes after the state is in and acknowledged.
        until(lambda: not _differs(space, fresh), LIMIT, what=lambda: "\n".join(_differs(space, fresh)))
        load.more(100)
    assert load.failed == {}


def _differs(space: Namespace, fresh: list[str]) -> list[str]:
    found = listing(space)
    more = [f"+ {line}" for line in found if line not in fresh and GUARD not in line]
    return [*more, *(f"- {line}" for line in fresh if line not in found)]


def _needs_kube_proxy() -> None:
    try:
        parts.find("kube-proxy")
    except parts.PartMissing as missing:
        pytest.skip(str(missing))
