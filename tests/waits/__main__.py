"""`python -m tests.waits`: random changes with random faults, and what `wait` says, held against packets.

Exit code 1 where an answer was wrong; each is shown with its seed and round, and the ends of all logs. `--fault NAME`
(several times) has these faults only. `--write` puts the results into
docs/operating.md.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.waits import document
from tests.waits.faults import FAULTS
from tests.waits.run import Found, run
from tests.waits.world import world
from tools import progress
from tools.lab.fabric import terminated_as_exit


def main() -> int:
    given = _arguments()
    began = time.monotonic()
    shown_wrong = 0

    def tell(found: Found) -> None:
        nonlocal shown_wrong
        for text in found.wrong[shown_wrong:]:
            _say(f"WRONG {text}\n")
        shown_wrong = len(found.wrong)
        line.at(f"{found.right} of {found.changes} changes right", small=True)

    with terminated_as_exit(), world() as made, progress.shown("waits") as line:
        found = run(made, given.changes, given.seed, tell, given.fault)
    seconds = time.monotonic() - began
    _say(document.table(found, given.seed, seconds))
    if given.write and not found.wrong:
        document.write(found, given.seed, seconds)
    return 1 if found.wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.waits", description=__doc__)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--fault", action="append", choices=list(FAULTS), default=[])
    parser.add_argument("--write", action="store_true", help="write the results into docs/operating.md")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
