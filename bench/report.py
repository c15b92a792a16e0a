"""The tables of docs/performance.md, from what was measured. Called by `__main__`; measures nothing itself.

The document has one section per measurement between two marks; a run replaces the sections it measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.agent import Changes, Memory
from bench.packet import ENDPOINTS, SERVICES, START, Measured, Setting, Side

PATH = Path(__file__).parents[1] / "docs" / "performance.md"
PARTS = (
    ("decode", "decode", "inflate, decode, validate"),
    ("check", "check", "hash, compare with the digest, take into the mirror"),
    ("resolve", "resolve", "resolve for this node"),
    ("commit", "render and netlink", "121,000 elements in transactions of 4,000, with the kernel's part"),
)


def section(name: str, body: str) -> None:
    """Puts one section into the document, with when and where it was measured."""
    put(name, f"Measured {machine.description()}.\n\n{body}")


def put(name: str, body: str) -> None:
    """Puts one section into the document as it is."""
    text = PATH.read_text()
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    PATH.write_text(f"{before}{start}\n{body}\n{end}{after}")


def change(samples: Sequence[Changes]) -> str:
    """(a)."""
    rows = [
        "| Services x 10 | median ms | p99 ms | worst ms | CPU ms | messages | elements | bytes | RSS MiB |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows += [_change_row(sample) for sample in samples]
    medians = [statistics.median(sample.took) for sample in samples]
    largest = quantile(samples[-1].took, 0.99) * 1e3
    spread = max(medians) / min(medians)
    floors = (
        floor(f"p99 at {samples[-1].services:,} x 10", f"{largest:.2f} ms", "at most 1 ms", met=largest <= 1),
        floor("largest median to smallest", f"{spread:.2f}", "at most 1.5", met=spread <= 1.5),
    )
    others = max(sample.others for sample in samples)
    count = f"{len(samples[0].took):,} changes per size. Others took {others:.0%} of the machine at most."
    return "\n".join([*rows, "", count, "", *floors])


def _change_row(sample: Changes) -> str:
    times = [statistics.median(sample.took), quantile(sample.took, 0.99), max(sample.took), statistics.mean(sample.cpu)]
    kernel = [_mean_and_most([commit[part] for commit in sample.commits]) for part in range(3)]
    cells = [f"{sample.services:,}", *(f"{seconds * 1e3:.2f}" for seconds in times), *kernel]
    return f"| {' | '.join(cells)} | {sample.rss_kib / 1024:.0f} |"


def _mean_and_most(numbers: Sequence[int]) -> str:
    return f"{statistics.mean(numbers):.1f} (most {max(numbers)})"


def cold(rounds: Sequence[dict[str, Any]]) -> str:
    """(b)."""
    rows = ["| part | median s | worst s | what it is |", "|---|--:|--:|---|"]
    for key, title, what in (*PARTS, ("cold", "**all**", "all bytes there to the kernel has everything")):
        found = [raw[key] for raw in rounds]
        rows.append(f"| {title} | {statistics.median(found):.2f} | {max(found):.2f} | {what} |")
    after, whole = (statistics.median(raw[key] for raw in rounds) for key in ("after_end", "cold"))
    size = rounds[0]["snapshot_bytes"] / 1024
    others = max(raw["others"] for raw in rounds)
    said = (
        f"{len(rounds)} rounds, snapshot of {size:.0f} KiB; of it after SnapshotEnd: {after:.2f} s. "
        f"Others took {others:.0%} of the machine at most."
    )
    return "\n".join([*rows, "", said, "", floor("all", f"{whole:.2f} s", "at most 1.5 s", met=whole <= 1.5)])


def memory(found: Memory) -> str:
    """Resident memory of the real agent."""
    rows = ["| | RSS MiB |", "|---|--:|", f"| loaded | {found.loaded / 1024:.1f} |"]
    rows.append(f"| after {found.changes:,} changes, 200 per second | {found.followed / 1024:.1f} |")
    rows.append(f"| highest so far | {found.peak / 1024:.1f} |")
    cost = f"The whole process took {found.cpu * 1e3:.2f} ms of CPU per change, with gRPC and acknowledgements."
    most = found.peak / 1024
    return "\n".join([*rows, "", cost, "", floor("RSS", f"{most:.1f} MiB", "at most 100 MiB", met=most <= 100)])


def packet(found: Sequence[Measured], reference: str) -> str:
    """(c)."""
    rows = [
        "| writes | proxy | median ms | p99 ms | worst ms | CPU ms per change | of it idle | samples |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for one in found:
        rows += [_side_row(one, side) for side in (one.agent, one.reference)]
        rows.append(_ratio_row(one))
    central = ", ".join(f"{one.controlplane_cpu / one.pace.changes * 1e3:.1f} ms" for one in found)
    lost = sum(one.lost for one in found)
    said = [
        f"kube-proxy is {reference}, nftables mode, `minSyncPeriod` at its default of 1 s.",
        f"{SERVICES:,} Services x {ENDPOINTS}; changes never seen: {lost}.",
        f"The control plane's CPU per change, once for all nodes and not in the table: {central}.",
    ]
    return "\n".join([*rows, "", *said, "", *(line for one in found for line in _packet_floors(one))])


def _side_row(one: Measured, side: Side) -> str:
    times = [statistics.median(side.took), quantile(side.took, 0.99), max(side.took)]
    cells = [one.pace.title, side.name, *(f"{seconds * 1e3:.1f}" for seconds in times)]
    idle = side.idle * one.seconds / one.pace.changes
    costs = f"{side.cpu / one.pace.changes * 1e3:.2f} | {idle * 1e3:.1f}"
    return f"| {' | '.join(cells)} | {costs} | {len(side.took)} |"


def _ratio_row(one: Measured) -> str:
    sooner, cheaper = ratios(one)
    late = quantile(one.reference.took, 0.99) / quantile(one.agent.took, 0.99)
    return f"| | *kube-proxy / agent* | *{sooner:.0f}* | *{late:.0f}* | | *{cheaper:.1f}* | | |"


def ratios(one: Measured) -> tuple[float, float]:
    """How many times sooner (medians) and cheaper (CPU) the agent is."""
    sooner = statistics.median(one.reference.took) / statistics.median(one.agent.took)
    return sooner, one.reference.cpu / max(one.agent.cpu, 1 / machine.TICK)


def _packet_floors(one: Measured) -> list[str]:
    sooner, cheaper = ratios(one)
    return [
        floor(f"sooner, {one.pace.title}", f"{sooner:.0f} times", "at least 20 times", met=sooner >= 20),
        floor(f"cheaper, {one.pace.title}", f"{cheaper:.1f} times", "at least 20 times", met=cheaper >= 20),
    ]


def modes(found: Iterable[tuple[Setting, Measured]], reference: str) -> str:
    """(d)."""
    rows = [
        "| mode | Services | proxy | start s | its CPU s | median ms | p99 ms | CPU ms per change | of it idle | n |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    floors: list[str] = []
    for setting, one in found:
        rows += [_mode_row(setting, one, side) for side in (one.agent, one.reference)]
        floors += _mode_floors(setting, one)
    return "\n".join([*rows, "", f"kube-proxy is {reference}; CPU with that of the programs they start.", "", *floors])


def _mode_row(setting: Setting, one: Measured, side: Side) -> str:
    cells = [setting.mode, f"{setting.services:,} x {setting.endpoints}", side.name]
    if not side.start.ended:
        return f"| {' | '.join(cells)} | not in {START:g} | {side.start.cpu:.0f} so far | | | | | 0 |"
    times = (statistics.median(side.took), quantile(side.took, 0.99))
    idle = side.idle * one.seconds / one.pace.changes
    cells += [f"{side.start.took:.2f}", f"{side.start.cpu:.2f}", *(f"{seconds * 1e3:.1f}" for seconds in times)]
    cells += [f"{side.cpu / one.pace.changes * 1e3:.2f}", f"{idle * 1e3:.1f}", str(len(side.took))]
    return f"| {' | '.join(cells)} |"


def _mode_floors(setting: Setting, one: Measured) -> list[str]:
    title = f"{setting.mode} at {setting.services:,} x {setting.endpoints}"
    if not one.reference.start.ended:
        return [floor(f"{title}, start", f"kube-proxy's had not ended after {START:g} s", "at most 1", met=True)]
    sooner, cheaper = ratios(one)
    begin = one.agent.start.took / one.reference.start.took
    return [
        floor(f"{title}, sooner", f"{sooner:.1f} times", "at least 10 times", met=sooner >= 10),
        floor(f"{title}, cheaper", f"{cheaper:.1f} times", "at least 10 times", met=cheaper >= 10),
        floor(f"{title}, start", f"{begin:.2f} of kube-proxy's time", "at most 1", met=begin <= 1),
    ]


def floor(what: str, found: str, asked: str, *, met: bool) -> str:
    """One line: wanted, found, and whether that is enough."""
    return f"- {what}: {found} (floor: {asked}) - {'met' if met else '**missed**'}"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all do not exceed. Raises LookupError where there is none."""
    ordered = sorted(values)
    rank = math.ceil(round(len(ordered) * share, 9))  # 0.07 * 100 is a little more than 7
    return ordered[max(1, rank) - 1]
