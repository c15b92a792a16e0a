"""Replicas are stopped politely and started again, one after the other; every change reaches every agent meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.streams.programs import ControlPlane, Fleet, Manifests

BOUND = 30.0  # seconds for one change to all agents: two of the longest waits between attempts (client.Pauses.failed)
PAUSE = 0.3  # seconds between two changes


def named(*sizes: int) -> list[list[str]]:
    """Groups of node names of these sizes."""
    return [[f"node-{group}-{number}" for number in range(size)] for group, size in enumerate(sizes)]


class Changing:
    """Adds a Service every PAUSE seconds; `at`: when each was written."""

    def __init__(self, manifests: Manifests) -> None:
        self._manifests = manifests
        self.at: list[float] = []

    def once(self) -> None:
        self.at.append(time.monotonic())
        self._manifests.add()

    async def for_ever(self) -> None:
        while True:
            self.once()
            await asyncio.sleep(PAUSE)

    def durations(self, fleet: Fleet) -> list[float]:
        """Seconds of each change but the first from the file to the last agent's kernel, shortest first."""
        return sorted(
            max(next(s.at for s in states if s.services >= number) for states in fleet.history.values()) - at
            for number, at in enumerate(self.at[1:], 2)  # the first was there before the agents
        )


async def roll(planes: list[ControlPlane], rounds: int) -> None:
    for _ in range(rounds):
        for plane in planes:
            await plane.stop()
            await plane.start()


Record = Callable[[str, object], None]  # pytest's record_property: what stands in the report of a run


async def check(folder: Path, record: Record, groups: list[list[str]], rounds: int) -> None:
    changing = Changing(Manifests(folder))
    changing.once()
    planes = [ControlPlane(folder) for _ in range(3)]
    fleet = Fleet([plane.address for plane in planes], *groups)
    try:
        await asyncio.gather(*(plane.start() for plane in planes))
        await fleet.start()
        await fleet.until(lambda state: state.connected and state.services >= 1)
        writer = asyncio.create_task(changing.for_ever())
        await roll(planes, rounds)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await fleet.until(lambda state: state.connected and state.services == len(changing.at))

        told = changing.durations(fleet)
        record("changes", len(told))
        record("streams", sum(state.connects for state in fleet.states))
        for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            record(f"{name} seconds", round(told[int((len(told) - 1) * part)], 2))
        assert fleet.alive
        assert sum(state.connects for state in fleet.states) > len(fleet.history), "nobody had to dial again"
        assert told[-1] < BOUND
        for plane in planes:
            assert not plane.unexpected, "\n".join(plane.unexpected)
    finally:
        await fleet.stop()
        await asyncio.gather(*(plane.stop() for plane in planes))


async def test_one_rolling_restart_loses_no_agent_and_no_change(tmp_path: Path, record_property: Record) -> None:
    await check(tmp_path, record_property, named(4, 1, 1), rounds=1)


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_five_rolling_restarts_lose_no_agent_and_no_change(tmp_path: Path, record_property: Record) -> None:
    await check(tmp_path, record_property, named(9, 9, 9, 1, 1, 1), rounds=5)
