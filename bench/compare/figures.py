"""What is made of raw numbers: which figures each scenario has, and what they mean. Called by `tables` and `pages`."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.report import quantile

Found = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One number of a scenario; less is better. `of` takes the scenario's entry; `per` turns seconds or KiB into the
    unit of `title`."""

    key: str
    title: str
    unit: str
    of: Callable[[Found], float]
    per: float = 1.0

    def value(self, found: Found | None) -> float | None:
        """In its unit; None where it was not measured, infinite where the program did not come to it."""
        if not found:
            return None
        if any(one.get("failed") is True for one in found.get("rounds", [])):
            return float("inf")
        try:
            return self.of(found) * self.per
        except (LookupError, statistics.StatisticsError, ZeroDivisionError):
            return None


@dataclass(frozen=True)
class Table:
    """A scenario's figures."""

    scenario: str
    title: str
    text: str
    figures: tuple[Figure, ...]


def _median(name: str) -> Callable[[Found], float]:
    return lambda found: statistics.median(found[name])


def _worst(name: str) -> Callable[[Found], float]:
    return lambda found: max(found[name])


def _p99(name: str) -> Callable[[Found], float]:
    """Of 100 samples and more; of fewer it is the worst one."""
    return lambda found: quantile(found[name], 0.99)


def _of_rounds(name: str) -> Callable[[Found], float]:
    return lambda found: statistics.median(one[name] for one in found["rounds"])


def _each(name: str) -> Callable[[Found], float]:
    return lambda found: found[name] / found["changes"]


def _within(part: str, name: str) -> Callable[[Found], float]:
    return lambda found: found[part][name]


def _seconds(key: str, title: str, of: Callable[[Found], float]) -> Figure:
    return Figure(key, title, "s", of)


def _milliseconds(key: str, title: str, of: Callable[[Found], float]) -> Figure:
    return Figure(key, title, "ms", of, 1e3)


def _mebibytes(key: str, title: str, name: str) -> Figure:
    return Figure(key, title, "MiB", lambda found: float(found[name]), 1 / 1024)


START = Table(
    "start",
    "Cold start",
    "From exec on a clean node until the last of 400 Services, spread over all, is reached by a packet; then all are "
    "tried. The API server runs, and the control plane as the API server does.",
    (
        _seconds("start", "start", _of_rounds("seconds")),
        _seconds("start CPU", "CPU", _of_rounds("cpu")),
        _seconds("start CPU, at rest", "CPU until at rest", _of_rounds("cpu_settled")),
    ),
)
CHANGE = Table(
    "change",
    "One change",
    "One endpoint of one Service is replaced, each time in another, and seen before the next is: from before the write "
    "to the API server until a packet meets the new endpoint. Twenty changes, so the worst one stands for p99.",
    (
        _milliseconds("change", "median", _median("packet")),
        _milliseconds("change, worst", "worst", _worst("packet")),
        _milliseconds("change CPU", "CPU per change", _each("cpu")),
    ),
)
RATE = Table(
    "rate",
    "100 changes per second",
    'For a minute; one in twenty is looked for by packets. "Behind" is from the last write to the last commit.',
    (
        _milliseconds("lag", "median", _median("packet")),
        _milliseconds("lag, p99", "p99", _p99("packet")),
        _milliseconds("lag, worst", "worst", _worst("packet")),
        _seconds("behind", "behind", lambda found: float(found["after"])),
        _milliseconds("rate CPU", "CPU per change", _each("cpu")),
    ),
)
BIG = Table(
    "big",
    "A Service with 1,000 endpoints",
    "One of them is replaced: from before the write until the last commit for it.",
    (_milliseconds("big", "median", _median("kernel")), _milliseconds("big CPU", "CPU per change", _each("cpu"))),
)
ZONE = Table(
    "zone",
    "A zone is lost",
    "A third of all endpoints of all Services goes at once, and comes back: from the first write until the kernel's "
    "last commit for it.",
    (
        _seconds("zone", "gone", _within("gone", "seconds")),
        _seconds("zone CPU", "CPU", _within("gone", "cpu")),
        _seconds("zone back", "back", _within("back", "seconds")),
        _seconds("zone back CPU", "CPU", _within("back", "cpu")),
    ),
)
RESTART = Table(
    "restart",
    "Restart",
    "The program ends, one endpoint is replaced, it starts: from exec until a packet meets that endpoint. The rules "
    "stay meanwhile; connections to another Service are made all the time.",
    (
        _seconds("restart", "restart", _of_rounds("seconds")),
        _seconds("restart CPU", "CPU", _of_rounds("cpu")),
    ),
)
MEMORY = Table(
    "memory",
    "Memory",
    "Resident after the changes above, and the most since the start; without the programs that kube-proxy starts.",
    (_mebibytes("memory", "resident", "rss"), _mebibytes("memory, most", "most", "peak")),
)
TABLES = (START, CHANGE, RATE, BIG, ZONE, RESTART, MEMORY)
