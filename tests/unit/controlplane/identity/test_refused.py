"""How long refused calls are kept: an address that calls again at once is refused a few times a second."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from controlplane.identity.refused import HELD, LONGEST, REFUSALS, REFUSALS_AT_ONCE, Refused

ONE, OTHER = "ipv4:192.0.2.1:40000", "ipv4:192.0.2.2:40000"


class Clock:
    """Time that passes where somebody sleeps. `asleep`: how many do so without end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stands: bool = False) -> None:
        self.now, self.slept, self.asleep, self._stands = 0.0, list[float](), 0, stands
        self.never = asyncio.Event()
        monkeypatch.setattr("controlplane.identity.refused.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self._stands:
            self.asleep += 1
            await self.never.wait()
        self.now += seconds


async def test_a_few_refusals_end_at_once_and_the_further_ones_at_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    refused = Refused(lambda: clock.now)
    ends = []
    for _ in range(200):
        await refused.hold("PERMISSION_DENIED", ONE)
        ends.append(clock.now)
    assert len(clock.slept) == 200 - REFUSALS_AT_ONCE
    later = ends[int(REFUSALS_AT_ONCE) :]
    assert {round(b - a, 6) for a, b in pairwise(later)} == {1 / REFUSALS}
    before = len(clock.slept)
    await refused.hold("PERMISSION_DENIED", OTHER)
    assert len(clock.slept) == before


async def test_what_is_not_the_peers_doing_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    refused = Refused(lambda: clock.now)
    for _ in range(200):
        await refused.hold("UNAVAILABLE", ONE)
    assert clock.slept == []


async def test_calls_that_are_kept_are_bounded_and_one_address_leaves_room(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, stands=True)
    refused = Refused(lambda: clock.now)
    tasks = [asyncio.create_task(refused.hold("RESOURCE_EXHAUSTED", ONE)) for _ in range(2 * HELD)]
    while sum(map(asyncio.Task.done, tasks)) + clock.asleep < len(tasks):
        await asyncio.wait(tasks, timeout=0)
    assert clock.asleep == HELD // 2
    assert max(clock.slept) == LONGEST
    others = [asyncio.create_task(refused.hold("RESOURCE_EXHAUSTED", OTHER)) for _ in range(100)]
    while sum(map(asyncio.Task.done, others)) + clock.asleep - HELD // 2 < len(others):
        await asyncio.wait(others, timeout=0)
    assert clock.asleep == HELD // 2 + 100 - REFUSALS_AT_ONCE
    for task in (*tasks, *others):
        task.cancel()
    await asyncio.gather(*tasks, *others, return_exceptions=True)
    assert len(refused._held) == 0  # a caller that hangs up gives its place back


async def test_after_a_long_flood_an_address_waits_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    refused = Refused(lambda: clock.now)
    for _ in range(10_000):
        refused._ends.owe("ipv4:192.0.2.1", clock.now, LONGEST)
    clock.now += LONGEST + 1
    await refused.hold("INVALID_ARGUMENT", ONE)
    assert clock.slept == []
