"""The main figures of the tables as one drawing (SVG). matplotlib is of bench/requirements.lock: see `make compare`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bench.compare import tables
from bench.compare.contenders import DELTAPLANE, KUBE_PROXY
from bench.compare.figures import TABLES
from bench.compare.tables import Pair

KEYS = ("start", "change", "change CPU", "lag", "rate CPU", "big", "zone", "restart", "memory")
TITLES = {
    "start": "Cold start, s", "change": "One change, ms", "change CPU": "CPU of one change, ms",
    "lag": "Lag at 100 changes/s, ms", "rate CPU": "CPU of each of 100/s, ms", "big": "One of 1,000 endpoints, ms",
    "zone": "A zone lost, s", "restart": "Restart, s", "memory": "Resident, MiB",
}  # fmt: skip
COLOURS = {
    (DELTAPLANE, "nftables"): "#0b6e4f", (DELTAPLANE, "iptables"): "#7fc8a9",
    (KUBE_PROXY, "nftables"): "#b23a48", (KUBE_PROXY, "iptables"): "#e8a0a8",
}  # fmt: skip


def draw(path: Path) -> None:
    """Nine panels on logarithmic axes: sizes from left to right, a line for each contender."""
    import matplotlib as mpl  # noqa: PLC0415 - not of the lock that a clone gets

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "deltaplane", "font.size": 9}
    every = [pair for table in TABLES for pair in tables.pairs(table)]
    figure, panels = plt.subplots(3, 3, figsize=(13, 10), layout="constrained")
    for key, axes in zip(KEYS, panels.flat, strict=True):
        _panel(axes, TITLES[key], [pair for pair in every if pair.figure.key == key])
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _panel(axes: Any, title: str, pairs: list[Pair]) -> None:
    sizes = list(dict.fromkeys(pair.size for pair in pairs))
    for (who, mode), colour in COLOURS.items():
        values = [_value(pairs, size, who, mode) for size in sizes]
        if not all(map(math.isnan, values)):
            axes.plot(values, "o-", linewidth=1, label=f"{who}, {mode}", color=colour)
    axes.set_title(title, loc="left")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_xticks(range(len(sizes)), [tables.title(size) for size in sizes], fontsize=8)
    axes.margins(x=0.15)
    axes.grid(axis="y", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _value(pairs: list[Pair], size: str, who: str, mode: str) -> float:
    for pair in pairs:
        if (pair.size, pair.mode) == (size, mode):
            value = pair.ours if who == DELTAPLANE else pair.theirs
            return math.nan if value is None or math.isinf(value) else value
    return math.nan
