"""Fault cases 3 and 25: replicas end and come; agents in their own processes, on kernels in memory."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.streams.programs import ControlPlane, Fleet, Manifests

GROUPS = [[f"n{group}-{number}" for number in range(20)] for group in range(3)]


@pytest.mark.slow
async def test_fault_03_all_replicas_are_killed_and_restarted(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    manifests.add()
    planes = [ControlPlane(tmp_path) for _ in range(3)]
    fleet = Fleet([plane.address for plane in planes], *GROUPS)
    try:
        await asyncio.gather(*(plane.start() for plane in planes))
        await fleet.start()
        await fleet.until(lambda state: state.connected and state.services == 1)
        for plane in planes:
            plane.signal(signal.SIGKILL)
        await asyncio.gather(*(plane.stop() for plane in planes))
        manifests.add()
        await asyncio.gather(*(plane.start() for plane in planes))

        await fleet.until(lambda state: state.connected and state.services == 2)
        assert fleet.alive
    finally:
        await fleet.stop()
        await asyncio.gather(*(plane.stop() for plane in planes))


@pytest.mark.slow
async def test_fault_25_replicas_go_from_three_to_six_to_two(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    manifests.add()
    planes = [ControlPlane(tmp_path) for _ in range(6)]
    fleet = Fleet([plane.address for plane in planes], *[group[:4] for group in GROUPS])
    try:
        await asyncio.gather(*(plane.start() for plane in planes[:3]))
        await fleet.start()
        await fleet.until(lambda state: state.connected and state.services == 1)
        before = {state.node: state.connects for state in fleet.states}
        await asyncio.gather(*(plane.start() for plane in planes[3:]))
        manifests.add()
        await fleet.until(lambda state: state.services == 2)
        assert {state.node: state.connects for state in fleet.states} == before, "an agent moved without need"
        for number, plane in enumerate(planes[:4], 3):
            await plane.stop()
            manifests.add()
            await fleet.until(lambda state, services=number: state.connected and state.services == services)  # type: ignore[misc]

        assert fleet.alive
    finally:
        await fleet.stop()
        await asyncio.gather(*(plane.stop() for plane in planes))
