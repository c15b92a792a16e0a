"""W13: another mode after a restart. The new rules are in before the old ones go, and nothing of the old is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from tests.kernel.load_support import Aim, following, loaded
from tests.kernel.modes_support import here, listing
from tools.lab import manifests
from tools.lab.client import Connection, until
from tools.lab.deltaplane import COMMAND, Agent, Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace
from tools.lab.process import Process
from tools.lab.rules import run, wipe

VIPS = {4: "172.30.13.1", 6: "fd00:10:96::d1"}
EMPTY = ("172.30.13.2", "fd00:10:96::d2")
NODE_PORT = 30013
RATE = 300.0
BETWEEN = 100  # connections before and after each change
WHOLE = "kernel has the whole state"


@pytest.fixture(scope="module")
def fabric(lab: Fabric) -> Iterator[Fabric]:
    """Nodes without anything of any mode, before and after."""
    for node in lab.nodes:
        wipe(node.space)
    yield lab
    for node in lab.nodes:
        wipe(node.space)


@pytest.fixture(scope="module")
def answering(fabric: Fabric) -> Iterator[None]:
    """Every pod does."""
    with closing(EchoServers()) as servers:
        for pod in fabric.pods:
            servers.start_pod(pod, protocols=["tcp"])
        yield


@pytest.fixture(scope="module")
def line(fabric: Fabric, answering: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A Service with endpoints on every node, one without any, and agents that can be told another mode."""
    at = tmp_path_factory.mktemp("modes")
    with following(fabric, at, "--nodeport-addresses=primary", "--drain-period=20s") as (folder, line):
        ports = [manifests.port(80, 8080, node_port=NODE_PORT)]
        web = manifests.service("web", ports, list(VIPS.values()), kind="NodePort")
        empty = manifests.service("empty", [manifests.port(80, 8080)], list(EMPTY))
        slices = manifests.slices("web", fabric.pods, [manifests.slice_port(8080)])
        with line.change():
            manifests.write(folder / "web.yaml", web, empty, *slices)
        yield line


def change(line: Deployment, agent: Agent, mode: str) -> None:
    """The agent is another process in this mode, has the whole state in the kernel, and the old process has ended."""
    old = agent.change(mode)
    assert agent.process is not None
    agent.process.wait_log(WHOLE)
    line.wait_applied()
    if old is not None:
        old.wait_end()


def fresh(line: Deployment, agent: Agent, mode: str) -> list[str]:
    """What the kernel holds after a first start in this mode."""
    agent.stop()
    wipe(agent.node.space)
    agent.mode = mode
    agent.start().wait_log(WHOLE)
    line.wait_applied()
    return listing(agent.node.space)


def aims(fabric: Fabric) -> Sequence[Aim]:
    node = fabric.nodes[0]
    inside = [(space, VIPS[family], 80) for space in (node.clients[0].space, node.space) for family in (4, 6)]
    return [*inside, (fabric.outside[0].space, node.address(4), NODE_PORT)]


@pytest.mark.slow
def test_changed_round_under_load_nobody_is_turned_away_and_nothing_is_left(line: Deployment, fabric: Fabric) -> None:
    agent, modes = line.agents[fabric.nodes[0].name], here()
    wanted = {mode: fresh(line, agent, mode) for mode in (*modes, modes[0])}
    with loaded(aims(fabric), RATE) as load:
        load.more(BETWEEN)
        for mode in (*modes[1:], *reversed(modes[:-1]), modes[-1], modes[0]):
            change(line, agent, mode)
            load.more(BETWEEN)
            assert load.failed == {}, mode
            until(lambda: listing(agent.node.space) == wanted[mode], 20, what=lambda: _differs(agent, wanted[mode]))  # noqa: B023
    assert load.failed == {}
    assert load.names == {pod.name for pod in fabric.pods}


def _differs(agent: Agent, wanted: list[str]) -> str:
    found = listing(agent.node.space)
    lines = [f"+ {text}" for text in found if text not in wanted] + [
        f"- {text}" for text in wanted if text not in found
    ]
    tail = agent.process.tail() if agent.process else ""
    return "\n".join([f"a fresh start's rules in mode {agent.mode}", *lines, tail])


@pytest.mark.parametrize("first, second", [("nftables", "iptables"), ("iptables", "nftables"), ("iptables", "ipvs")])
def test_established_connections_outlive_the_change(line: Deployment, fabric: Fabric, first: str, second: str) -> None:
    """The kernel remembers how it translates a connection, whoever's rule said so."""
    agent = line.agents[fabric.nodes[0].name]
    if not {first, second} <= set(here()):
        pytest.skip(f"this machine has not both of {first} and {second}")
    if agent.mode != first:
        change(line, agent, first)
    connections = [Connection(space, address, port) for space, address, port in aims(fabric)]
    before = [connection.open() for connection in connections]
    change(line, agent, second)
    after = [connection.ask() for connection in connections]
    for connection in connections:
        connection.close()
    assert [outcome.kind for outcome in before] == ["answer"] * len(before)
    assert after == before


@pytest.mark.parametrize("second", ["nftables", "iptables"])
def test_what_userspace_mode_carries_goes_on_after_the_change(line: Deployment, fabric: Fabric, second: str) -> None:
    """The ending agent has its listeners' address until it has ended; then that goes too."""
    agent = line.agents[fabric.nodes[0].name]
    if second not in here():
        pytest.skip(f"this machine has not {second}")
    if agent.mode != "userspace":
        change(line, agent, "userspace")
    connections = [Connection(space, address, port) for space, address, port in aims(fabric)]
    before = [connection.open() for connection in connections]
    old = agent.change(second)
    assert agent.process is not None
    agent.process.wait_log(WHOLE)
    line.wait_applied()
    after = [connection.ask() for connection in connections]
    for connection in connections:
        connection.close()
    assert [outcome.kind for outcome in before] == ["answer"] * len(before)
    assert after == before
    assert old is not None
    assert old.wait_end() == 0
    until(lambda: not any("169.254.86.1" in text for text in listing(agent.node.space)), 20)


@pytest.mark.slow
def test_what_others_have_stays(line: Deployment, fabric: Fabric) -> None:
    """What is neither ours nor kube-proxy's is not touched by any change of mode, nor by --cleanup."""
    agent = line.agents[fabric.nodes[0].name]
    space = agent.node.space
    agent.stop()
    wipe(space)
    _others(space)
    untouched = listing(space)
    for mode in (*here(), here()[0]):
        change(line, agent, mode)
        assert set(untouched) <= set(listing(space)), mode
    agent.stop()
    _cleanup(agent)
    found = listing(space)
    assert [line for line in untouched if line not in found] == []
    more = [line for line in found if line not in untouched and not line.startswith(("chain ", "type "))]
    assert [line for line in more if "KUBE-FIREWALL" not in line] == []  # the kubelet, which is here, makes that too
    wipe(space)
    agent.start().wait_log(WHOLE)


def _others(space: Namespace) -> None:
    def do(*command: str) -> None:
        run(space, *command, check=False)  # whichever this machine has

    do("nft", "add", "table", "ip", "theirs")
    do("nft", "add", "chain", "ip", "theirs", "input", "{ type filter hook input priority 0; }")
    do("nft", "add", "rule", "ip", "theirs", "input", "tcp", "dport", "9", "drop")
    for program in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"):
        do(program, "-N", "THEIRS")
        do(program, "-A", "THEIRS", "-p", "tcp", "--dport", "9", "-j", "DROP")
        do(program, "-A", "INPUT", "-j", "THEIRS")
        do(program, "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "9", "-j", "ACCEPT")
        do(program, "-t", "mangle", "-N", "KUBE-KUBELET-CANARY")
    do("ipset", "create", "THEIRS", "hash:ip")


def _cleanup(agent: Agent) -> None:
    log = agent.log.with_name("cleanup.log")
    process = Process("cleanup", [*COMMAND, "agent", "--cleanup"], log, agent.node.space)
    assert process.wait_end() == 0, process.tail()
