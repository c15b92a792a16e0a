"""Connections that are counted while the proxies are changed, as many as `--connections` asks for.

What is done meanwhile is done again until so many were tried. Without the option: once. What was counted stands at the
end of pytest's output.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.shop import Shop
from tests.kernel.load_support import Load, loaded

RATE = 400.0  # connections a second, over every way to the Service
AROUND = 1000  # connections before and after
SUMMARY: list[str] = []  # a line for each `used`, and for each rolling restart


class Counted:
    """Made once for all tests; `wanted`: connections each time."""

    def __init__(self, shop: Shop, wanted: int) -> None:
        self._shop, self._wanted = shop, wanted

    @contextmanager
    def used(self, what: str, least: int = 1) -> Iterator[Iterator[int]]:
        """Meanwhile clients connect over every way, and none fails. Yields the rounds, `least` or more: 1, 2, ..."""
        began, rounds = time.monotonic(), [0]
        with loaded([(space, *where) for _, space, where in self._shop.ways()], RATE) as load:
            load.more(AROUND)
            yield self._rounds(load, rounds, least)
            load.more(AROUND)
        seconds = time.monotonic() - began
        times = f"{rounds[0]} times, " if rounds[0] > 1 else ""
        SUMMARY.append(f"{what}: {times}{load.failed or 'none'} failed of {load.total} connections in {seconds:.0f} s")
        assert load.failed == {}, what

    def _rounds(self, load: Load, rounds: list[int], least: int) -> Iterator[int]:
        while rounds[0] < least or load.total < self._wanted - AROUND:
            rounds[0] += 1
            yield rounds[0]
