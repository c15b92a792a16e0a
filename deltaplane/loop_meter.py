"""How long each turn of an event loop keeps everything else waiting, measured where the loop waits for files.

Both programs run their loop through `run` and export what `LoopMeter` collects. A turn is what the loop does between
two waits; nothing wakes up for the measurement, so an idle program stays idle.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from bisect import bisect_left
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
SLOW = 0.05  # seconds: nothing should hold a loop for longer
T = TypeVar("T")


class LoopMeter(Collector):
    """Turns of one loop, by how long they took. Read by scrapes, from any thread."""

    def __init__(self) -> None:
        self.turns = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.longest = 0.0
        self.slow = 0

    def turn(self, seconds: float) -> None:
        """The loop was busy for so long."""
        self.turns[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        if seconds > SLOW:
            self.slow += 1
            self.longest = max(self.longest, seconds)

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
        turns = HistogramMetricFamily("deltaplane_loop_turn_seconds", "How long turns of the event loop took.")
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.turns, strict=True):
            total += count
            buckets.append((bound, float(total)))
        turns.add_metric([], buckets, self.seconds)
        yield turns
        text = f"Turns of the event loop that took more than {SLOW} s, during which nothing else ran."
        yield CounterMetricFamily("deltaplane_loop_slow_turns", text, value=self.slow)
        text = "The longest turn of the event loop since the start, where it was a slow one."
        yield GaugeMetricFamily("deltaplane_loop_longest_turn_seconds", text, self.longest)


class _Timed(selectors.DefaultSelector):
    """What a loop waits with; the time between two waits is a turn."""

    def __init__(self, meter: LoopMeter) -> None:
        super().__init__()
        self._meter = meter
        self._since = time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._meter.turn(time.monotonic() - self._since)
        ready = super().select(timeout)
        self._since = time.monotonic()
        return ready


def run(main: Coroutine[Any, Any, T], meter: LoopMeter) -> T:
    """`asyncio.run`, with the loop's turns measured."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Timed(meter))) as runner:
        return runner.run(main)
