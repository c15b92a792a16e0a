"""`python -m tests.flows`: the table of all scenarios and columns; exit code 1 where a difference is not explained.

`--columns model,nftables` runs some columns only; `-k TEXT` scenarios whose name has the text. A full run of all
columns writes docs/behaviour.md anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.flows import apart, conformance, document
from tests.flows.columns import COLUMNS
from tests.flows.corpus import scenarios
from tests.flows.scenario import Scenario
from tools import progress
from tools.lab.fabric import terminated_as_exit


def main() -> int:
    given = _arguments()
    columns = [column for column in COLUMNS if column in given.columns.split(",")]
    chosen = [scenario for scenario in scenarios() if given.k in scenario.id]
    with terminated_as_exit():
        found = _found(chosen, columns, given)
    if given.into:
        apart.save(found, given.into)
    _say("\n".join(conformance.table(chosen, found, columns)))
    if columns == list(COLUMNS) and not given.k:
        document.write(found)
    bad = conformance.unexplained(found)
    _say(f"\n{len(bad)} unexplained" + "".join(f"\n  {name}" for name in bad))
    return 1 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.flows", description=__doc__)
    parser.add_argument("--columns", default=",".join(COLUMNS), help="which of " + ", ".join(COLUMNS))
    parser.add_argument("-k", default="", metavar="TEXT", help="scenarios whose name has this text")
    parser.add_argument("--into", type=Path, metavar="FILE", help="leave the results there as well")
    return parser.parse_args()


def _found(chosen: list[Scenario], columns: list[str], given: argparse.Namespace) -> apart.Found:
    if len(columns) > 1 or (columns == ["ipvs"] and not given.into):
        with progress.shown("conformance") as shown:
            shown.at(f"{len(chosen)} scenarios in each of {len(columns)} columns, a process for each")
            return apart.results(chosen, columns, ["-k", given.k], _tell)
    with tempfile.TemporaryDirectory() as folder, progress.shown("conformance", len(chosen) * len(columns)) as shown:
        return conformance.results(chosen, columns, Path(folder), _tell, partial(shown.at, small=True))


def _tell(line: str) -> None:
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # of the moving line that says what runs
    sys.stderr.write(f"{clear}{line}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
