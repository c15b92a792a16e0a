"""A replica that starts beside another gets its agents from it, in real programs: each moves once and lacks nothing."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path

import pytest

from controlplane.rebalance import home
from tests.streams.programs import Fleet, Manifests, Program
from tools.lab.ports import free_port

AGENTS = 30
ROUNDS = 5
COMMAND = """
import sys
from controlplane import reached, rebalance, replica_places
reached.PERIOD = replica_places.FRESH = 1.0
rebalance.SUSTAINED = rebalance.SETTLED = 1.0
rebalance.SPARE, rebalance.RATE, rebalance.FACTOR = 0, 0.2, 0.0
from deltaplane.cli import main
from tools.lab.ports import free_port
sys.exit(main())
"""


def plane(folder: Path, address: str, every: list[str]) -> Program:
    return Program(
        "-c", COMMAND, "controlplane", "--source=manifests", f"--manifests={folder}", f"--listen={address}",
        f"--replicas={','.join(every)}", "--insecure",
    )  # fmt: skip


async def test_agents_go_home_once_and_resume_by_their_digest(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    manifests.add()
    places = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    names = [f"node-{number}" for number in range(AGENTS)]
    first, second = (plane(tmp_path, address, places) for address in places)
    fleet = Fleet(places, names)
    try:
        await first.start()
        await first.until(lambda: any("serving" in line for line in first.lines))
        await fleet.start()
        await fleet.until(lambda state: state.connected and state.services == 1)
        before = {state.node: state.connects for state in fleet.states}
        await second.start()
        moved = {name for name in names if home(name, places) == places[1]}
        await second.until(lambda: sum("agent connected" in line for line in second.lines) >= len(moved))
        manifests.add()
        await fleet.until(lambda state: state.connected and state.services == 2)

        assert {state.node for state in fleet.states if state.connects > before[state.node]} == moved
        assert all(state.connects - before[state.node] in (0, 1) for state in fleet.states)
        assert {state.services for states in fleet.history.values() for state in states if state.connected} <= {0, 1, 2}
        assert not any("superseded" in line for line in first.lines + second.lines)
    finally:
        await asyncio.gather(fleet.stop(), first.stop(), second.stop())


@pytest.mark.slow
async def test_while_a_replica_is_away_nobody_moves_and_after_its_return_each_moves_once(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path)
    manifests.add()
    places = sorted(f"127.0.0.1:{free_port()}" for _ in range(3))
    names = [f"node-{number}" for number in range(AGENTS)]
    planes = [plane(tmp_path, address, places) for address in places]
    fleet = Fleet(places, names)
    try:
        for each in planes:
            await each.start()
            await each.until(partial(said, each, "serving"))
        await planes[0].until(lambda: said(planes[0], f'reached="?{",".join(places)}"? '))
        await planes[1].stop()
        await planes[2].stop()
        await planes[0].until(lambda: said(planes[0], f'away="?{",".join(places[1:])}"? '))
        await fleet.start()  # all are at the first one, and two thirds have a home elsewhere
        await fleet.until(lambda state: state.connected and state.services == 1)
        await planes[1].start()
        await planes[0].until(lambda: said(planes[0], f'away="?{places[2]}"? '))
        for _ in range(ROUNDS):  # of a change that all have: it takes longer than the times after which streams move
            manifests.add()
            await fleet.until(lambda state: state.connected and state.services == manifests.count)
            await asyncio.sleep(1.0)
        assert {state.connects for state in fleet.states} == {1}

        await planes[2].start()
        owner = {name: home(name, places) for name in names}
        moved = {name for name in names if owner[name] != places[0]}
        await fleet.until(lambda state: state.connected and state.connects == 1 + (state.node in moved))
        manifests.add()
        await fleet.until(lambda state: state.connected and state.services == manifests.count)

        assert {state.node: state.connects for state in fleet.states} == {name: 1 + (name in moved) for name in names}
        for number in (1, 2):
            theirs = {name for name in names if owner[name] == places[number]}
            came = {line.split("node=")[1].split()[0] for line in planes[number].lines if "agent connected" in line}
            assert came == theirs
        assert not any("superseded" in line for each in planes for line in each.lines)
    finally:
        await asyncio.gather(fleet.stop(), *(each.stop() for each in planes))


def said(program: Program, pattern: str) -> bool:
    return any(re.search(pattern, line) for line in program.lines)
