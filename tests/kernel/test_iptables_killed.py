"""Killed at any moment while it writes, on the real programs: the next start makes what the last input means."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.dataplane.outcome import Commit
from nodeagent.linux.iptables.programs import Flavour
from tests.kernel.iptables_support import FLAVOURS, dataplane, tables
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, STATES
from tools.lab import netns
from tools.lab.netns import Namespace
from tools.lab.process import Process

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

KILLS = 20
RESTLESS = """
import random, sys
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.linux.iptables.programs import Flavour
from tests.unit.nodeagent.dataplane.iptables.tracing import SETTINGS
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, STATES
made = IptablesDataplane(settings=SETTINGS, flavour=Flavour(sys.argv[1]))
made.start()
print("started", flush=True)
while True:
    made.apply(random.choice(list(STATES.values())), NODE, complete=random.random() < 0.5)
"""


@pytest.fixture
def spaces() -> Iterator[tuple[Namespace, Namespace]]:
    made = netns.create("killed"), netns.create("fresh")
    yield made
    for space in made:
        netns.delete(space)


@FLAVOURS
def test_killed_again_and_again_while_it_writes(
    spaces: tuple[Namespace, Namespace], tmp_path: Path, flavour: Flavour
) -> None:
    """With its programs or without them: a restore that was begun may go on alone for a moment."""
    space, fresh = spaces
    wanted = STATES["affinity, local policy"]
    for number in range(KILLS):
        chance = random.Random(number)
        child = Process("restless", [sys.executable, "-c", RESTLESS, flavour.value], tmp_path / "log", space)
        child.wait_log("started")
        time.sleep(chance.uniform(0.0, 0.3))
        child.kill()
    with dataplane(space, flavour) as made, dataplane(fresh, flavour) as other:
        made.apply(wanted, NODE, complete=True)
        other.apply(wanted, NODE, complete=True)
        for family in (4, 6):
            assert tables(space, flavour, family) == tables(fresh, flavour, family)
        assert made.repair() == Commit()
