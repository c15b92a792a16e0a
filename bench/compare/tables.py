"""What `results` has, as tables of Markdown, and where kube-proxy is better. Measures nothing; called by `pages`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.compare import results
from bench.compare.contenders import DELTAPLANE, KUBE_PROXY
from bench.compare.scenarios import LIMIT

MODES = ("nftables", "iptables")
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


def _of_rounds(name: str) -> Callable[[Found], float]:
    return lambda found: statistics.median(one[name] for one in found["rounds"])


def _each(name: str) -> Callable[[Found], float]:
    return lambda found: found[name] / found["changes"]


def _within(part: str, name: str) -> Callable[[Found], float]:
    return lambda found: found[part][name]


TABLES = (
    Table("start", "Cold start", "From exec on a clean node until the last of 400 Services, spread over all, is reached "
          "by a packet; then all are tried. The API server runs, and Deltaplane's control plane, as the API server does.",
          (Figure("start", "start", "s", _of_rounds("seconds")), Figure("start CPU", "CPU", "s", _of_rounds("cpu")))),
    Table("change", "One change", "One endpoint of one Service is replaced, each time in another, and seen before the next "
          "is: from before the write to the API server until a packet meets the new endpoint.",
          (Figure("change", "median", "ms", _median("packet"), 1e3), Figure("change, worst", "worst", "ms", _worst("packet"), 1e3),
           Figure("change CPU", "CPU per change", "ms", _each("cpu"), 1e3))),
    Table("rate", "100 changes per second", "For a minute; one in twenty is looked for by packets. \"Behind\" is from the last "
          "write to the last commit.",
          (Figure("lag", "median", "ms", _median("packet"), 1e3), Figure("lag, worst", "worst", "ms", _worst("packet"), 1e3),
           Figure("behind", "behind", "s", lambda found: found["after"]), Figure("rate CPU", "CPU per change", "ms", _each("cpu"), 1e3))),
    Table("big", "A Service with 1,000 endpoints", "One of them is replaced: from before the write until the kernel has it.",
          (Figure("big", "median", "ms", _median("kernel"), 1e3), Figure("big CPU", "CPU per change", "ms", _each("cpu"), 1e3))),
    Table("zone", "A zone is lost", "A third of all endpoints of all Services goes at once, and comes back: from the first "
          "write until the kernel's last commit for it.",
          (Figure("zone", "gone", "s", _within("gone", "seconds")), Figure("zone CPU", "CPU", "s", _within("gone", "cpu")),
           Figure("zone back", "back", "s", _within("back", "seconds")), Figure("zone back CPU", "CPU", "s", _within("back", "cpu")))),
    Table("restart", "Restart", "The program ends, one endpoint is replaced, it starts: from exec until a packet meets that "
          "endpoint. The rules stay meanwhile.",
          (Figure("restart", "restart", "s", _of_rounds("seconds")), Figure("restart CPU", "CPU", "s", _of_rounds("cpu")))),
    Table("memory", "Memory", "Resident after the changes above, and the most since the start; the programs that kube-proxy "
          "starts are not in it.",
          (Figure("memory", "resident", "MiB", lambda found: found["rss"], 1 / 1024), Figure("memory, most", "most", "MiB", lambda found: found["peak"], 1 / 1024))),
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One figure of both programs, in one mode at one size."""

    size: str
    mode: str
    figure: Figure
    ours: float | None
    theirs: float | None

    @property
    def times(self) -> float | None:
        """How many times as much kube-proxy takes; None where not both are known."""
        if self.ours is None or self.theirs is None or self.ours == float("inf"):
            return None
        return self.theirs / max(self.ours, 1e-9)


def title(size: str) -> str:
    services, _, endpoints = size.partition("x")
    return f"{int(services):,} x {endpoints}"


def pairs(table: Table) -> Iterator[Pair]:
    """All that is known of a scenario."""
    for size in results.sizes():
        for mode in MODES:
            ours, theirs = (results.load(size, f"{who}-{mode}").get(table.scenario) for who in (DELTAPLANE, KUBE_PROXY))
            if ours or theirs:
                for figure in table.figures:
                    yield Pair(size, mode, figure, figure.value(ours), figure.value(theirs))


def rendered(table: Table) -> str:
    """Heading, meaning and rows."""
    heads = [cell for figure in table.figures for cell in (f"{figure.title}, {figure.unit}", "kube-proxy", "times")]
    rows = [f"| Services | mode | {' | '.join(heads)} |", "|--:|---|" + "--:|" * len(heads)]
    every = list(pairs(table))
    width = len(table.figures)
    rows += [_row(every[at : at + width]) for at in range(0, len(every), width)]
    return "\n".join([f"### {table.title}", "", table.text, "", *rows])


def _row(row: list[Pair]) -> str:
    cells = [cell for pair in row for cell in (number(pair.ours), number(pair.theirs), _times(pair))]
    return f"| {title(row[0].size)} | {row[0].mode} | {' | '.join(cells)} |"


def number(value: float | None) -> str:
    """Three digits; nothing where there is nothing."""
    if value is None:
        return ""
    if value == float("inf"):
        return f"not in {LIMIT:g} s"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _times(pair: Pair) -> str:
    if pair.times is None:
        return ""
    if pair.times == float("inf"):
        return ""
    return f"{pair.times:,.0f}" if pair.times >= 10 else f"{pair.times:.1f}"


def worse() -> list[str]:
    """What kube-proxy does as well or better, a line each: worst first."""
    every = [pair for table in TABLES for pair in pairs(table) if pair.times is not None and pair.times <= 1]
    return [
        f"- {pair.figure.key} at {title(pair.size)}, {pair.mode}: {number(pair.ours)} {pair.figure.unit}, kube-proxy "
        f"{number(pair.theirs)} {pair.figure.unit}"
        for pair in sorted(every, key=lambda pair: pair.times or 0.0)
    ]


def targets() -> Iterable[tuple[str, Pair, float]]:
    """What is wanted: (words, what was found, how many times)."""
    by = {(pair.size, pair.mode, pair.figure.key): pair for table in TABLES for pair in pairs(table)}
    for key, words in (("change", "sooner"), ("change CPU", "cheaper")):
        if pair := by.get(("10000x10", "nftables", key)):
            yield f"one change at 10,000 x 10, nftables, {words}", pair, 100
    for (size, mode, key), pair in by.items():
        if key == "start":
            yield f"start at {title(size)}, {mode}, sooner", pair, 1
