"""What kube-proxy left in iptables-legacy, and an agent whose container has no CAP_NET_RAW: it says what to do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tools.lab.deltaplane import COMMAND
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace
from tools.lab.rules import run, wipe


@pytest.fixture
def space(lab: Fabric) -> Iterator[Namespace]:
    """A node without rules, before and after."""
    found = lab.nodes[0].space
    wipe(found)
    yield found
    wipe(found)


def cleaned(space: Namespace, capabilities: str) -> subprocess.CompletedProcess[str]:
    drop = ("setpriv", "--bounding-set", f"-all{capabilities}", "--inh-caps", f"-all{capabilities}", "--no-new-privs")
    with space.entered():
        return subprocess.run(
            [*drop, "--", *COMMAND, "agent", "--cleanup"], capture_output=True, text=True, check=False
        )  # fmt: skip


def test_without_the_right_to_remove_them_it_says_which_and_how_and_with_it_they_go(space: Namespace) -> None:
    run(space, "iptables-legacy", "-t", "nat", "-N", "KUBE-SERVICES")
    run(space, "iptables-legacy", "-t", "nat", "-A", "PREROUTING", "-j", "KUBE-SERVICES")

    failed = cleaned(space, ",+net_admin")
    assert failed.returncode == 1
    assert len(re.findall(r"iptables-legacy: listing \w+ of IPv4 failed", failed.stderr)) == 1
    assert "this process lacks CAP_NET_RAW: run `kube-proxy --cleanup` on this node" in failed.stderr
    assert "the component legacy-leftovers" in failed.stderr
    assert "KUBE-SERVICES" in run(space, "iptables-legacy-save", "-t", "nat")

    done = cleaned(space, ",+net_admin,+net_raw")
    assert done.returncode == 0, done.stderr
    assert "KUBE-SERVICES" not in run(space, "iptables-legacy-save", "-t", "nat")
