"""All scenarios against all columns: the results, their table, and whether every difference is explained.

Called by `python -m tests.flows` and by the tests of kube-proxy's column; knows how each column is set up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nodeagent.errors import AgentError
from tests.flows import interpreter, kernel, kubeproxy, model
from tests.flows.columns import BY_NAME, COLUMNS
from tests.flows.dialects import heard
from tests.flows.machines import try_here
from tests.flows.network import Network
from tests.flows.product import Missing
from tests.flows.reference import Reference
from tests.flows.scenario import Scenario
from tests.flows.verdicts import NotHere, explanation
from tools.lab.parts import PartMissing

Run = Callable[[Scenario], list[str]]

HOLDS, FAILS, EXPLAINED, STALE, NOT_HERE = "holds", "FAILS", "explained", "STALE", "-"
BAD = (FAILS, STALE)


@dataclass(frozen=True)
class Result:
    """What a column made of a scenario. `notes`: the differences, or why there is nothing to compare.

    `flows` is how many flows it ran; `otherwise`, how many of them had another outcome than the scenario's own, for a
    listed reason.
    """

    verdict: str
    notes: tuple[str, ...] = ()
    flows: int = 0
    otherwise: int = 0


Results = Mapping[tuple[str, str], Result]  # by scenario id and column


def judge(column: str, scenario: Scenario, found: Iterable[str], reasons: tuple[str, ...] = ()) -> Result:
    """STALE: an explanation of a difference that is none any more. `reasons`: why some flows are held to others."""
    differences, reason = tuple(found), explanation(column, scenario)
    if not reason:
        return Result(FAILS, differences) if differences else Result(EXPLAINED if reasons else HOLDS, reasons)
    if not differences:
        return Result(STALE, (f"explained ({reason}), and yet it holds: remove the explanation",))
    return Result(EXPLAINED, (reason, *differences))


def results(
    scenarios: Iterable[Scenario],
    columns: Iterable[str],
    folder: Path,
    tell: Callable[[str], None],
    begins: Callable[[str], None] = lambda _: None,
) -> dict[tuple[str, str], Result]:
    """Everything, column by column; kube-proxy's scenarios in an order that seldom starts it again.

    A column that this machine cannot have says so of every scenario. `begins` is told each scenario before it runs.
    """
    made: dict[tuple[str, str], Result] = {}
    everything = list(scenarios)
    for column in columns:
        began = time.monotonic()
        try:
            with _column(column, folder) as run:
                for scenario in sorted(everything, key=kubeproxy.order):
                    begins(f"{column}: {scenario.id}")
                    made[scenario.id, column] = _result(column, scenario, run)
        except (NotHere, PartMissing) as missing:
            made.update(lacking(everything, column, str(missing)))
            tell(f"{column}: not here: {missing}")
        else:
            tell(f"{column}: {len(everything)} scenarios in {time.monotonic() - began:.1f} s")
    return made


def lacking(scenarios: Iterable[Scenario], column: str, reason: str) -> dict[tuple[str, str], Result]:
    """A column that is not there."""
    return {(scenario.id, column): Result(NOT_HERE, (reason,)) for scenario in scenarios}


def _result(column: str, scenario: Scenario, run: Run) -> Result:
    if reason := scenario.reason_not_in(column):
        return Result(NOT_HERE, (reason,))
    held, reasons = heard(scenario, column)
    try:
        found = run(held)
    except (Missing, OSError, RuntimeError, AgentError) as failure:
        found = [f"{type(failure).__name__}: {failure}"]
    return counted(judge(column, held, found, reasons), scenario, held)


def counted(result: Result, scenario: Scenario, held: Scenario) -> Result:
    """The result with its flows counted. `held` is the scenario with the outcomes that the column was held to."""
    steps = zip(scenario.steps, held.steps, strict=True)
    pairs = [pair for step, other in steps for pair in zip(step.flows, other.flows, strict=True)]
    otherwise = sum(flow != other for flow, other in pairs)
    if result.verdict == EXPLAINED:
        otherwise += sum(note.startswith("step ") for note in result.notes[1:])
    return replace(result, flows=len(pairs), otherwise=min(otherwise, len(pairs)))


@contextmanager
def _column(name: str, folder: Path) -> Iterator[Run]:
    """A column ready to run. Raises `NotHere`, `PartMissing`, or OSError where namespaces cannot be made."""
    column = BY_NAME[name]
    if not column.mode:
        pure = model.run if name == "model" else interpreter.run
        yield lambda scenario: [str(d) for d in pure(scenario)]
        return
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        if column.theirs:
            reference = Reference(network, folder, column.mode)
            stack.callback(reference.close)
            yield lambda scenario: [str(d) for d in kubeproxy.run(scenario, network, reference)]
        else:
            try_here(network, column)
            yield lambda scenario: [str(d) for d in kernel.run(scenario, network, column)]


def table(scenarios: Iterable[Scenario], found: Results, columns: Iterable[str] = COLUMNS) -> Iterator[str]:
    """The lines of the table: a scenario a line, then totals, then every difference with what explains it."""
    everything, shown = list(scenarios), list(columns)
    width = max(len(scenario.id) for scenario in everything)
    cell = max(map(len, shown))
    yield "scenario".ljust(width) + "".join(f"  {column:<{cell}}" for column in shown)
    for scenario in everything:
        cells = (found[scenario.id, column].verdict for column in shown)
        yield scenario.id.ljust(width) + "".join(f"  {text:<{cell}}" for text in cells)
    for verdict in (HOLDS, EXPLAINED, NOT_HERE, *BAD):
        counts = [sum(found[s.id, column].verdict == verdict for s in everything) for column in shown]
        yield f"total {verdict}".ljust(width) + "".join(f"  {count:<{cell}}" for count in counts)
    yield from _notes({key: found[key] for column in shown for key in ((s.id, column) for s in everything)})


def _notes(found: Results) -> Iterator[str]:
    """What is to be said of results, each thing once with the scenarios it is about."""
    said: dict[tuple[str, Result], list[str]] = {}
    for (name, column), result in found.items():
        if result.notes:
            said.setdefault((column, result), []).append(name)
    for (column, result), names in said.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"\n{result.verdict}: {names[0]}{more} in {column}"
        yield from (f"    {note}" for note in result.notes)


def unexplained(found: Results) -> list[str]:
    """What makes the run fail."""
    return [f"{name} in {column}" for (name, column), result in found.items() if result.verdict in BAD]
