"""W13 where there is IPVS: from every mode of the guest to every other one, by real agents, under load.

The counterpart of `tests/kernel/test_modes_change.py`, whose machine need not have IPVS; here is no nf_tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kernel.load_support import Aim, loaded
from tests.kernel.modes_support import listing
from tests.vm.ipvs_support import run, wipe
from tests.vm.services import vip
from tests.vm.test_agent import put
from tools.lab import manifests
from tools.lab.client import Connection, until
from tools.lab.deltaplane import Agent, Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.rules import hint

pytestmark = pytest.mark.timeout(400)
MODES = ("iptables", "userspace", "ipvs")
ROUND = ("userspace", "ipvs", "iptables", "userspace", "iptables", "ipvs")  # from ipvs: every mode to every other
RATE = 60.0
BETWEEN = 40  # connections before and after each change
WHOLE = "kernel has the whole state"


@pytest.fixture
def line(lab: Fabric, serving: EchoServers, tmp_path: Path) -> Iterator[Deployment]:
    """A Service over all pods and one without any; the control plane, and an agent to be started on the first node."""
    node = lab.nodes[0]
    wipe(node.space)
    hint(node.space)
    folder = tmp_path / "objects"
    folder.mkdir()
    manifests.write(folder / "nodes.yaml", *(manifests.node_object(each) for each in lab.nodes))
    empty = manifests.service("empty", [manifests.port(80, 8080)], [vip(4, 2), vip(6, 2)])
    manifests.write(folder / "empty.yaml", empty)
    put(folder, lab.pods)
    flags = ("--nodeport-addresses=primary", "--drain-period=60s")
    with Deployment(lab, tmp_path, "--source=manifests", f"--manifests={folder}", agent_flags=flags) as made:
        del made.agents[lab.nodes[1].name]
        made.controlplane.start(60)
        yield made
    wipe(node.space)


def change(line: Deployment, agent: Agent, mode: str) -> None:
    """The agent is another process in this mode, has the whole state in the kernel, and the old process has ended."""
    old = agent.change(mode)
    ready(line, agent)
    if old is not None:
        assert old.wait_end(60) == 0, old.tail()


def ready(line: Deployment, agent: Agent) -> None:
    assert agent.process is not None
    agent.process.wait_log(WHOLE, 60)
    line.wait_applied(timeout=60)


def fresh(line: Deployment, agent: Agent, mode: str) -> list[str]:
    """What the kernel holds after a first start in this mode."""
    agent.stop()
    wipe(agent.node.space)
    hint(agent.node.space)
    agent.mode = mode
    agent.start()
    ready(line, agent)
    return listed(agent)


def listed(agent: Agent) -> list[str]:
    """Without the chain that the kubelet shares: iptables mode makes it, and nobody removes it."""
    return [line for line in listing(agent.node.space) if "KUBE-FIREWALL" not in line]


def aims(lab: Fabric) -> Sequence[Aim]:
    node = lab.nodes[0]
    inside = [(space, vip(family), 80) for space in (node.clients[0].space, node.space) for family in (4, 6)]
    return [*inside, (lab.outside[0].space, node.address(4), 30080)]


def test_changed_round_under_load_nobody_is_turned_away_and_nothing_is_left(line: Deployment, lab: Fabric) -> None:
    agent = next(iter(line.agents.values()))
    wanted = {mode: fresh(line, agent, mode) for mode in MODES}
    with loaded(aims(lab), RATE) as load:
        load.more(BETWEEN)
        for mode in ROUND:
            change(line, agent, mode)
            load.more(BETWEEN)
            assert load.failed == {}, (mode, agent.log.read_text()[-6000:])
            until(lambda: listed(agent) == wanted[mode], 20, what=lambda: _differs(agent, wanted[mode]))  # noqa: B023
    assert load.failed == {}
    assert load.names == {pod.name for pod in lab.pods}


def _differs(agent: Agent, wanted: list[str]) -> str:
    found = listed(agent)
    more, less = (sorted({*one} - {*other}) for one, other in ((found, wanted), (wanted, found)))
    return "\n".join([f"mode {agent.mode}", *(f"+ {text}" for text in more), *(f"- {text}" for text in less)])


def test_back_before_the_old_mode_is_let_go_of(line: Deployment, lab: Fabric) -> None:
    """The node's own routes are as after a first start, once the mode that was released is in use again."""
    agent = next(iter(line.agents.values()))
    wanted, routes = fresh(line, agent, "ipvs"), local_routes(agent)
    with Connection(lab.nodes[0].clients[0].space, vip(4), 80) as held:
        assert held.open().answered
        for mode in ("iptables", "ipvs"):
            change(line, agent, mode)
            assert (local_routes(agent) == routes) is (mode == "ipvs")
        assert held.ask().answered
    until(lambda: listed(agent) == wanted, 20, what=lambda: _differs(agent, wanted))


def local_routes(agent: Agent) -> list[str]:
    """Of the addresses of IPVS's link."""
    texts = (run(agent.node.space, "ip", family, "route", "show", "table", "local") for family in ("-4", "-6"))
    return sorted(
        line.strip() for text in texts for line in text.splitlines() if vip(4)[:7] in line or vip(6)[:10] in line
    )


def test_established_connections_outlive_the_change(line: Deployment, lab: Fabric) -> None:
    """What they go through stays for them: a process of userspace mode, IPVS's virtual servers, the kernel's memory."""
    agent = next(iter(line.agents.values()))
    agent.mode = "ipvs"
    agent.start()
    ready(line, agent)
    for mode in ("iptables", "userspace", "ipvs"):
        connections = [Connection(space, address, port) for space, address, port in aims(lab)]
        before = [connection.open() for connection in connections]
        old = agent.change(mode)
        ready(line, agent)
        after = [connection.ask() for connection in connections]
        for connection in connections:
            connection.close()
        assert [outcome.kind for outcome in before] == ["answer"] * len(before)
        assert after == before, (mode, agent.log.read_text()[-4000:])
        assert old is not None
        assert old.wait_end(60) == 0
