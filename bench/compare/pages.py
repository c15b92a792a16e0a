"""docs/performance.md's sections of the comparison, and its plots. Called by `main`."""

from __future__ import annotations

from bench import report
from bench.compare import plots, results, tables
from bench.compare.contenders import CONTENDERS
from bench.compare.figures import TABLES, Found

PLOTS = report.PATH.with_name("compare.svg")


def text() -> str:
    """All of it, as it is printed."""
    return f"{_worse()}\n\n{_compared()}"


def write() -> None:
    """Replaces both sections and the plots."""
    report.put("worse", _worse())
    plots.draw(PLOTS)
    report.put(
        "compare",
        f"![Times, processor time and memory of both programs, by size of cluster]({PLOTS.name})\n\n{_compared()}",
    )


def _worse() -> str:
    found = tables.worse()
    if not any(results.sizes()):
        return "Nothing was measured yet."
    return "\n".join(found or ["Nothing of what was measured."])


def _compared() -> str:
    parts = [tables.rendered(table) for table in TABLES if any(tables.pairs(table))]
    return "\n\n".join([_said(), _targets(), *parts, _failed(), _beside(), _absent()])


def _targets() -> str:
    lines = []
    for words, pair, wanted in tables.targets():
        if pair.times is None:
            lines.append(f"- {words}: not measured on both")
            continue
        found = "kube-proxy did not come to it" if pair.times == float("inf") else f"{pair.times:.1f} times"
        lines.append(report.floor(words, found, f"at least {wanted:g} times", met=pair.times >= wanted))
    return "\n".join(lines)


def _said() -> str:
    """When and where, as the files have it."""
    said = [
        entry["measured"]
        for size in results.sizes()
        for who in results.FOLDER.joinpath(size).glob("*.json")
        for entry in results.load(size, who.stem).values()
    ]
    return f"Measured from {min(said)[:20]} to {max(said)}." if said else "Nothing was measured yet."


def _beside() -> str:
    """What the control plane costs, which serves all nodes."""
    rows = ["### The control plane beside it", "", "Once for all nodes; kube-proxy is measured without it.", "",
            "| Services | CPU per change, ms | at 100 changes per second, ms | resident, MiB | most, MiB |",
            "|--:|--:|--:|--:|--:|"]  # fmt: skip
    for size in results.sizes():
        found = results.load(size, "deltaplane-nftables")
        cells = [
            *(_per(found.get(name)) for name in ("change", "rate")),
            *(tables.number(found.get("memory", {}).get(name, 0) / 1024 or None) for name in ("beside", "beside_peak")),
        ]
        rows.append(f"| {tables.title(size)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _absent() -> str:
    """What the tables lack."""
    return "\n".join(["### Not measured", "", *(list(tables.absent()) or ["Everything was."])])


def _failed() -> str:
    """What became of the connections during the restarts."""
    said = []
    for who in CONTENDERS:
        found = [results.load(size, who.name).get("restart", {}) for size in results.sizes()]
        tried, failed = (sum(entry.get(name, 0) for entry in found) for name in ("tried", "failed"))
        if tried:
            said.append(f"{who.program} in {who.mode} mode {failed:,} of {tried:,}")
    return f"Connections that failed during restarts: {', '.join(said) or 'not measured'}."


def _per(entry: Found | None) -> str:
    return tables.number(entry["beside"] / entry["changes"] * 1e3) if entry and "beside" in entry else ""
