"""A time to wait for that may come sooner than was thought."""

from __future__ import annotations

import asyncio
import time

from nodeagent.stream.alarm import Alarm

FAR = 3600.0


async def rung(alarm: Alarm, turns: int = 5) -> bool:
    """Whether it has rung, after what is due by now has been done."""
    waiting = asyncio.ensure_future(alarm.rings())
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiting.done():
        return True
    waiting.cancel()
    return False


async def test_it_rings_when_it_is_time_and_once() -> None:
    alarm = Alarm()
    alarm.by(time.monotonic() - 1)
    assert await rung(alarm)
    assert not await rung(alarm)


async def test_it_may_be_sooner_and_not_later() -> None:
    alarm = Alarm()
    alarm.by(time.monotonic() + FAR)
    assert not await rung(alarm)
    alarm.by(time.monotonic() - 1)
    alarm.by(time.monotonic() + FAR)
    assert await rung(alarm)


async def test_what_was_moved_does_not_ring_twice() -> None:
    alarm = Alarm()
    alarm.by(time.monotonic() + FAR)
    alarm.by(time.monotonic() - 1)
    assert await rung(alarm)
    alarm.by(time.monotonic() + FAR)
    assert not await rung(alarm)


async def test_it_rings_for_who_waits_later() -> None:
    alarm = Alarm()
    alarm.by(time.monotonic() - 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert await rung(alarm)
