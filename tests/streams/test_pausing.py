"""A process of either side stands still (SIGSTOP, as a frozen machine does) and goes on. Real processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.streams.programs import ControlPlane, Fleet, Manifests

HEARTBEAT = 0.2  # seconds


@asynccontextmanager
async def running(planes: Sequence[ControlPlane], manifests: Manifests, silence: float) -> AsyncIterator[Fleet]:
    """One agent, connected and up to date."""
    fleet = Fleet([plane.address for plane in planes], ["node"], silence=silence)
    try:
        await asyncio.gather(*(plane.start() for plane in planes))
        await fleet.start()
        manifests.add()
        await fleet.until(lambda state: state.connected and state.services == 1)
        yield fleet
    finally:
        await fleet.stop()
        await asyncio.gather(*(plane.stop() for plane in planes))


async def test_an_agent_leaves_a_replica_that_stands_still_for_another(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    planes = [ControlPlane(tmp_path, heartbeat=HEARTBEAT) for _ in range(2)]
    async with running(planes, manifests, silence=6.0) as fleet:
        (stopped,) = (plane for plane in planes if any("agent connected" in line for line in plane.lines))
        stopped.signal(signal.SIGSTOP)
        manifests.add()
        await fleet.until(lambda state: state.connected and state.services == 2)
        (state,) = fleet.states

        assert any("nothing heard" in reason for reason in state.lost)

        stopped.signal(signal.SIGCONT)  # what it has yet to say to the stream that was left changes nothing
        manifests.add()
        await fleet.until(lambda state: state.connected and state.services == 3)
        assert fleet.states[0].connects == 2


async def test_an_agent_that_stood_still_reads_what_waits_and_keeps_its_stream(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    async with running([ControlPlane(tmp_path, heartbeat=HEARTBEAT)], manifests, silence=6.0) as fleet:
        fleet.programs[0].signal(signal.SIGSTOP)
        manifests.add()
        await asyncio.sleep(8)
        fleet.programs[0].signal(signal.SIGCONT)
        await fleet.until(lambda state: state.connected and state.services == 2)
        (state,) = fleet.states

        assert (state.connects, state.lost) == (1, [])


async def test_an_agent_that_stood_still_until_its_replica_gave_it_up_dials_again(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    plane = ControlPlane(tmp_path, heartbeat=HEARTBEAT, keepalive=500)
    async with running([plane], manifests, silence=30.0) as fleet:
        fleet.programs[0].signal(signal.SIGSTOP)
        await plane.until(lambda: any("agent left" in line for line in plane.lines))
        manifests.add()
        fleet.programs[0].signal(signal.SIGCONT)
        await fleet.until(lambda state: state.connected and state.services == 2)

        assert fleet.states[0].connects == 2
