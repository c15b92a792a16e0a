"""Timeouts of connection tracking as the kernel takes them, in one namespace; its global limits are left alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodeagent.config.schema import Conntrack
from nodeagent.node.sysctl import setup
from tools.lab import netns
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace
from tools.lab.rules import run


@pytest.fixture
def spaces(lab: Fabric) -> Iterator[list[Namespace]]:
    """Two new namespaces (`lab` says whether there can be any)."""
    made = [netns.create(f"settings-{number}") for number in range(2)]
    yield made
    for space in made:
        netns.delete(space)


def test_timeouts_are_set_in_this_network_only(spaces: list[Namespace]) -> None:
    first, second = spaces
    name = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"
    before = run(second, "cat", name)
    assert before.strip() != "3600"
    with first.entered():
        assert setup(Conntrack(max_per_core=0)) == []
        assert setup(Conntrack(max_per_core=0)) == []
    assert run(first, "cat", name).strip() == "3600"
    assert run(second, "cat", name) == before
