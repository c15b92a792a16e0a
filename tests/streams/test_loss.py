"""Packets of one direction are lost, or of both, between an agent and its replica: the agent is soon on another.

Real processes with the product's own times, and nft's rules, in a namespace of the test's own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.streams.programs import ControlPlane, Fleet, Manifests
from tools.lab import netns
from tools.lab.netns import Namespace

LIMIT = 45.0  # seconds: a ping after 20, its answer awaited for 10 (or silence for 30), and the way to another
DIRECTIONS = {"to the replica": ("dport",), "to the agent": ("sport",), "both": ("dport", "sport")}


@pytest.fixture
def space() -> Iterator[Namespace]:
    """A namespace whose loopback is up."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    made = netns.create("loss")
    try:
        asyncio.run(run(made, "ip", "link", "set", "lo", "up"))
        yield made
    finally:
        netns.delete(made)


async def run(space: Namespace, *command: str) -> None:
    process = await asyncio.create_subprocess_exec("ip", "netns", "exec", space.name, *command)
    assert await process.wait() == 0, command


async def lose(space: Namespace, port: str, ends: tuple[str, ...]) -> None:
    """Drops what comes to this TCP port, from it, or both."""
    rules = "\n".join(f"tcp {end} {port} drop" for end in ends)
    await run(space, "nft", f"table ip loss {{\nchain input {{\ntype filter hook input priority 0\n{rules}\n}}\n}}")


@pytest.mark.slow
@pytest.mark.kernel
@pytest.mark.parametrize("ends", DIRECTIONS.values(), ids=DIRECTIONS)
async def test_an_agent_whose_packets_are_lost_is_soon_on_another_replica(
    space: Namespace, tmp_path: Path, ends: tuple[str, ...]
) -> None:
    manifests = Manifests(tmp_path)
    planes = [ControlPlane(tmp_path, space=space) for _ in range(2)]
    fleet = Fleet([plane.address for plane in planes], ["node"], space=space)
    try:
        await asyncio.gather(*(plane.start() for plane in planes))
        manifests.add()
        await fleet.start()
        await fleet.until(lambda state: state.connected and state.services == 1)
        (plane,) = (plane for plane in planes if any("agent connected" in line for line in plane.lines))
        began = time.monotonic()
        await lose(space, plane.address.rpartition(":")[2], ends)
        await fleet.until(lambda state: state.connected and state.connects == 2)

        assert fleet.states[0].at - began < LIMIT

        manifests.add()
        await fleet.until(lambda state: state.services == 2)
    finally:
        await fleet.stop()
        await asyncio.gather(*(plane.stop() for plane in planes))
