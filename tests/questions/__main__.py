"""`python -m tests.questions`: random questions to `explain`, each held against a real packet.

Exit code 1 where an answer was wrong. `--mode` nftables, iptables, iptables-legacy, userspace or ipvs; `-k TEXT` asks
about scenarios whose name has the text; the same `--seed` asks the same questions.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.flows.columns import ALL, BY_NAME
from tests.flows.corpus import scenarios
from tests.flows.verdicts import NotHere
from tests.questions.run import Found, fit, questions
from tools import progress
from tools.lab.fabric import terminated_as_exit

MODES = tuple(column.name for column in ALL if column.mode and not column.theirs)
_SHOWN = 40  # wrong answers


def main() -> int:
    given = _arguments()
    column = BY_NAME[given.mode]
    chosen = [each for each in fit(scenarios(), column) if given.k in each.id]
    if given.scenarios:
        chosen = random.Random(given.seed).sample(chosen, min(given.scenarios, len(chosen)))
    began = time.monotonic()
    try:
        with terminated_as_exit(), progress.shown("questions", len(chosen)) as shown:
            found = questions(chosen, column, given.count, given.seed, lambda name, _: shown.at(name, small=True))
    except NotHere as missing:
        _say(f"{given.mode}: not here: {missing}")
        return 2
    _say(_report(given.mode, found, time.monotonic() - began))
    return 1 if found.wrong else 0


def _report(mode: str, found: Found, seconds: float) -> str:
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(found.kinds.items()))
    lines = [f"{mode}: {found.asked - len(found.wrong)} of {found.asked} right ({kinds}) in {seconds:.0f} s"]
    return "\n".join([*lines, *(f"  {text}" for text in found.wrong[:_SHOWN])])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.questions", description=__doc__)
    parser.add_argument("--mode", default="nftables", choices=MODES)
    parser.add_argument("--count", type=int, default=1000, help="questions in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenarios", type=int, default=0, help="so many of them, by chance; 0: all")
    parser.add_argument("-k", default="", metavar="TEXT", help="scenarios whose name has this text")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
