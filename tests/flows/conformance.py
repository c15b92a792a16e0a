"""All scenarios against all columns: the results, their table, and whether every difference is explained.

Called by `python -m tests.flows` and by the tests of kube-proxy's column; knows how each column is set up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.flows import interpreter, kernel, kubeproxy, model
from tests.flows.network import Network
from tests.flows.product import Missing
from tests.flows.reference import Reference
from tests.flows.scenario import COLUMNS, Scenario
from tests.flows.verdicts import explanation

Run = Callable[[Scenario], list[str]]

HOLDS, FAILS, EXPLAINED, STALE, NOT_HERE = "holds", "FAILS", "explained", "STALE", "-"
BAD = (FAILS, STALE)


@dataclass(frozen=True)
class Result:
    """What a column made of a scenario. `notes`: the differences, or why there is nothing to compare."""

    verdict: str
    notes: tuple[str, ...] = ()


Results = Mapping[tuple[str, str], Result]  # by scenario id and column


def judge(column: str, scenario: Scenario, found: Iterable[str]) -> Result:
    """STALE: an explanation of a difference that is none any more."""
    differences, reason = tuple(found), explanation(column, scenario)
    if not reason:
        return Result(FAILS, differences) if differences else Result(HOLDS)
    if not differences:
        return Result(STALE, (f"explained ({reason}), and yet it holds: remove the explanation",))
    return Result(EXPLAINED, (reason, *differences))


def results(
    scenarios: Iterable[Scenario], columns: Iterable[str], folder: Path, tell: Callable[[str], None]
) -> dict[tuple[str, str], Result]:
    """Everything, column by column; kube-proxy's scenarios in an order that seldom starts it again."""
    made: dict[tuple[str, str], Result] = {}
    everything = list(scenarios)
    for column in columns:
        began = time.monotonic()
        with _column(column, folder) as run:
            for scenario in sorted(everything, key=kubeproxy.order):
                made[scenario.id, column] = _result(column, scenario, run)
        tell(f"{column}: {len(everything)} scenarios in {time.monotonic() - began:.1f} s")
    return made


def _result(column: str, scenario: Scenario, run: Run) -> Result:
    if reason := scenario.reason_not_in(column):
        return Result(NOT_HERE, (reason,))
    try:
        found = run(scenario)
    except (Missing, OSError, RuntimeError) as failure:
        found = [f"{type(failure).__name__}: {failure}"]
    return judge(column, scenario, found)


@contextmanager
def _column(column: str, folder: Path) -> Iterator[Run]:
    """A column ready to run. Raises `tools.lab.parts.PartMissing`, or OSError where namespaces cannot be made."""
    if column == "model":
        yield lambda scenario: [str(d) for d in model.run(scenario)]
    elif column == "interpreter":
        yield lambda scenario: [str(d) for d in interpreter.run(scenario)]
    else:
        with ExitStack() as stack:
            network = Network()
            stack.callback(network.close)
            if column == "kernel":
                yield lambda scenario: [str(d) for d in kernel.run(scenario, network)]
                return
            reference = Reference(network, folder)
            stack.callback(reference.close)
            yield lambda scenario: [str(d) for d in kubeproxy.run(scenario, network, reference)]


def table(scenarios: Iterable[Scenario], found: Results, columns: Iterable[str] = COLUMNS) -> Iterator[str]:
    """The lines of the table: a scenario a line, then totals, then every difference with what explains it."""
    everything, shown = list(scenarios), list(columns)
    width = max(len(scenario.id) for scenario in everything)
    yield "scenario".ljust(width) + "".join(f"  {column:<12}" for column in shown)
    for scenario in everything:
        cells = (found[scenario.id, column].verdict for column in shown)
        yield scenario.id.ljust(width) + "".join(f"  {cell:<12}" for cell in cells)
    for verdict in (HOLDS, EXPLAINED, NOT_HERE, *BAD):
        counts = [sum(found[s.id, column].verdict == verdict for s in everything) for column in shown]
        yield f"total {verdict}".ljust(width) + "".join(f"  {count:<12}" for count in counts)
    for scenario in everything:
        for column in shown:
            result = found[scenario.id, column]
            if result.notes:
                yield f"\n{result.verdict}: {scenario.id} in {column}"
                yield from (f"    {note}" for note in result.notes)


def unexplained(found: Results) -> list[str]:
    """What makes the run fail."""
    return [f"{name} in {column}" for (name, column), result in found.items() if result.verdict in BAD]
