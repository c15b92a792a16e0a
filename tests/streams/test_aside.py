"""A replica that alone cannot follow its source has its agents go to the others, and takes agents again later."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deltaplane.v1 import inspection_pb2
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub
from tests.streams.programs import PATIENCE, Fleet, Manifests, Program
from tools.lab.ports import free_port

COMMAND = """
import sys
from controlplane import aside, reached, replica_places
reached.PERIOD = replica_places.FRESH = 0.5
aside.AFTER, aside.BACK = 2.0, 4.0
from deltaplane.cli import main
sys.exit(main())
"""
AGENTS = 12
PAUSE = 0.1  # seconds between two questions


class Plane(Program):
    """A replica with a folder of its own, which can be taken away from it."""

    def __init__(self, folder: Path, address: str, every: list[str]) -> None:
        folder.mkdir()
        self.folder, self.address, self.manifests = folder, address, Manifests(folder)
        super().__init__(
            "-c", COMMAND, "controlplane", "--source=manifests", f"--manifests={folder}", f"--listen={address}",
            f"--replicas={','.join(every)}", "--insecure",
        )  # fmt: skip

    def said(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.lines)

    def lose(self) -> None:
        self.folder.rename(self.folder.with_suffix(".kept"))
        self.folder.write_text("no folder")

    def find(self) -> None:
        self.folder.unlink()
        self.folder.with_suffix(".kept").rename(self.folder)

    async def serving(self) -> int:
        async with grpc.aio.insecure_channel(self.address) as channel:
            ask: Any = health_pb2_grpc.HealthStub(channel)
            found = await ask.Check(health_pb2.HealthCheckRequest(service="deltaplane.v1.DeltaService"))
            return int(found.status)

    async def unfollowed(self) -> None:
        """Returns when it says that it does not follow its folder."""
        for _ in range(int(PATIENCE / PAUSE)):
            if (await self.status()).unfollowed:
                return
            await asyncio.sleep(PAUSE)
        raise AssertionError("\n".join(self.lines[-20:]))

    async def status(self) -> inspection_pb2.ReplicaStatus:
        async with grpc.aio.insecure_channel(self.address) as channel:
            ask = InspectionServiceStub(channel)
            found = await ask.GetStatus(inspection_pb2.GetStatusRequest(this_replica=True))
            status: inspection_pb2.ReplicaStatus = found.replicas[0]
            return status


def planes(folder: Path, number: int) -> list[Plane]:
    places = [f"127.0.0.1:{free_port()}" for _ in range(number)]
    return [Plane(folder / f"r{at}", place, places) for at, place in enumerate(places)]


async def started(every: list[Plane]) -> None:
    for each in every:
        each.manifests.add()
        await each.start()
    for each in every:
        await each.until(partial(each.said, "serving"))
    for each in every:
        pattern = rf'reached="?{",".join(sorted(one.address for one in every))}"? away="?"?(?: |$)'
        await each.until(partial(each.said, pattern))


async def test_its_agents_go_where_changes_arrive_and_it_takes_agents_again_when_it_follows(tmp_path: Path) -> None:
    stale, well = every = planes(tmp_path, 2)
    first = Fleet([stale.address, well.address], [f"node-{number}" for number in range(AGENTS)])
    late = Fleet([stale.address], ["node-late"])
    try:
        await started(every)
        await first.start()
        await first.until(lambda state: state.connected and state.services == 1)
        stale.lose()
        await stale.until(lambda: stale.said("takes no agents"))
        assert await stale.serving() == health_pb2.HealthCheckResponse.NOT_SERVING
        assert "does not follow" in (await stale.status()).no_agents
        assert await well.serving() == health_pb2.HealthCheckResponse.SERVING
        well.manifests.add()
        await first.until(lambda state: state.connected and state.services == 2)
        await late.start()
        (agent,) = late.programs
        await agent.until(lambda: any("takes no agents now" in line for line in agent.lines))
        assert not any(state.connects for state in late.states)

        stale.find()
        stale.manifests.add()
        await stale.until(lambda: stale.said("takes agents again"))
        await late.until(lambda state: state.connected and state.services == 2)
        assert await stale.serving() == health_pb2.HealthCheckResponse.SERVING
        assert (await stale.status()).no_agents == ""
        for each in every:
            assert sum("takes no agents" in line for line in each.lines) == (each is stale)
            assert not each.unexpected
    finally:
        await asyncio.gather(first.stop(), late.stop(), *(each.stop() for each in every))


@pytest.mark.slow
async def test_when_no_replica_follows_agents_stay_where_they_are(tmp_path: Path) -> None:
    every = planes(tmp_path, 2)
    fleet = Fleet([each.address for each in every], ["node-1", "node-2"])
    try:
        await started(every)
        await fleet.start()
        await fleet.until(lambda state: state.connected and state.services == 1)
        for each in every:
            each.lose()
        for each in every:
            await each.unfollowed()
        await asyncio.sleep(4.0)  # twice the time after which it would leave them
        assert {state.connects for state in fleet.states} == {1}
        assert not any(each.said("takes no agents") for each in every)
        for each in every:
            assert await each.serving() == health_pb2.HealthCheckResponse.SERVING
    finally:
        await asyncio.gather(fleet.stop(), *(each.stop() for each in every))
