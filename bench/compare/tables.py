"""What `results` has, as tables of Markdown, and where kube-proxy is better. Measures nothing; called by `pages`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.compare import results
from bench.compare.contenders import CONTENDERS, DELTAPLANE, KUBE_PROXY
from bench.compare.figures import START, TABLES, Figure, Table
from bench.compare.scenarios import LIMIT
from bench.compare.scene import SIZES

MODES = ("nftables", "iptables")


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


def absent() -> Iterator[str]:
    """What was not measured, a line for each size and contender; nothing else is wanted of one that never started."""
    for size in map(str, SIZES):
        for who in CONTENDERS:
            found = results.load(size, who.name)
            if START.figures[0].value(found.get("start")) == float("inf"):
                continue
            missing = [table.title for table in TABLES if table.scenario not in found]
            if missing:
                said = ", ".join(missing) if found else "nothing was measured"
                yield f"- {title(size)}, {who.program} in {who.mode} mode: {said}"
