"""An agent that carries connections itself ends when nothing leads to it any more, or when its time is over."""

from __future__ import annotations

import asyncio

from nodeagent.dataplane.modes.hand_over import finish


class Carrier:
    def __init__(self, looks: int) -> None:
        self.left = looks

    def superseded(self) -> bool:
        self.left -= 1
        return self.left < 0


async def test_a_kernel_mode_ends_at_once() -> None:
    assert await finish(object(), 60, asyncio.Event())


async def test_it_waits_until_another_has_taken_over() -> None:
    assert await finish(Carrier(2), 60, asyncio.Event())


async def test_its_time_is_over() -> None:
    assert not await finish(Carrier(10_000), 0.15, asyncio.Event())
    assert not await finish(Carrier(1), 0, asyncio.Event())


async def test_a_second_signal_ends_it() -> None:
    hurry = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, hurry.set)
    assert not await asyncio.wait_for(finish(Carrier(10_000), 60, hurry), 10)
