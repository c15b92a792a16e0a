"""An agent in ipvs mode killed at random points, again and again, while changes arrive: the kernel is what they say.

The counterpart of `tests/kernel/test_modes_killed.py`, whose machine need not have IPVS. The long form is 200 times
(`make test-vm SLOW=1`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.test_modes_killed import CHECKED, SEED, Changing, begin, compare, kill, served
from tools.lab import manifests
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.rules import wipe

PACE = 0.3  # seconds between two changes: the guest has one processor for everything
LIVES = 1.5  # times what a start takes, at most


@pytest.fixture
def line(lab: Fabric, serving: EchoServers, tmp_path: Path) -> Iterator[Deployment]:
    """A control plane on a folder of manifests, and an agent on the first node that is not started."""
    node, folder = lab.nodes[0], tmp_path / "manifests"
    folder.mkdir()
    manifests.write(folder / "nodes.yaml", *map(manifests.node_object, lab.nodes))
    flags = ("--nodeport-addresses=primary", "--drain-period=0s")
    wipe(node.space)
    with Deployment(lab, tmp_path, "--source=manifests", f"--manifests={folder}", agent_flags=flags) as made:
        del made.agents[lab.nodes[1].name]
        made.controlplane.start(60)
        yield made
    wipe(node.space)


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(3, marks=pytest.mark.timeout(300)),
        pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(2400)]),
    ],
)
def test_killed_while_changes_arrive(lab: Fabric, line: Deployment, tmp_path: Path, times: int) -> None:
    """The whole kernel is looked at after each `CHECKED` kills, and packets at the end."""
    agents = {"ipvs": next(iter(line.agents.values()))}
    longest = LIVES * begin(agents["ipvs"], "ipvs")
    for first in range(0, times, CHECKED):
        changing = Changing(lab, tmp_path / "manifests", SEED + first, PACE)
        changing.start()
        kill(agents["ipvs"], min(CHECKED, times - first), longest, f"ipvs {first}")
        changing.stop()
        assert changing.written
        compare(line, agents)
    served(lab, line, agents, changing)
