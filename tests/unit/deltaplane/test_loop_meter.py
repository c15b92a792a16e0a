"""Turns of an event loop are measured without waking it, and slow ones are counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator

from prometheus_client import CollectorRegistry

from deltaplane.loop_meter import BOUNDS, LoopMeter, run


async def _work(block: float) -> str:
    await asyncio.sleep(0)
    time.sleep(block)  # noqa: ASYNC251 - what the meter is for
    await asyncio.sleep(0.01)
    return "done"


ATTEMPTS = 20  # where the machine takes the processor away in the middle of a turn, that turn is slow


def metered(work: Callable[[], Coroutine[None, None, object]]) -> Iterator[LoopMeter]:
    for _ in range(ATTEMPTS):
        meter = LoopMeter()
        run(work(), meter)
        yield meter


def test_a_turn_that_holds_the_loop_is_counted_with_its_length() -> None:
    assert run(_work(0.0), LoopMeter()) == "done"
    assert any(meter.slow == 1 and meter.longest >= 0.08 for meter in metered(lambda: _work(0.08)))


def test_waiting_is_no_turn() -> None:
    assert any(meter.slow == 0 and meter.seconds < 0.2 for meter in metered(lambda: asyncio.sleep(0.2)))


def test_what_is_exported_adds_up() -> None:
    meter, registry = LoopMeter(), CollectorRegistry()
    registry.register(meter)
    for seconds in (0.0005, 0.06, 40.0):
        meter.turn(seconds)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("deltaplane_loop_turn_seconds_count") == 3
    assert value("deltaplane_loop_turn_seconds_bucket", le=str(BOUNDS[0])) == 1
    assert value("deltaplane_loop_turn_seconds_bucket", le="+Inf") == 3
    assert value("deltaplane_loop_slow_turns_total") == 2
    assert value("deltaplane_loop_longest_turn_seconds") == 40.0
