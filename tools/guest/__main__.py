"""`python -m tools.guest [--limit SECONDS] [--results FOLDER] -- COMMAND...`: a command in the guest, its output here.

Exit code: the command's; 0 with a reason on standard error where no guest can run, 3 where it failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tools.guest import machine
from tools.lab.fabric import terminated_as_exit


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.guest", description=__doc__)
    parser.add_argument("--limit", type=float, default=460.0, help="seconds for the command")
    parser.add_argument("--results", type=Path, help="a folder that is /run/out inside")
    parser.add_argument("command", nargs="+")
    said = parser.parse_args()
    reason = machine.unavailable()
    if reason:
        print(f"guest: skipped: {reason}", file=sys.stderr)
        return 0
    print("guest: booting User-mode Linux, which takes about ten seconds", file=sys.stderr, flush=True)
    with terminated_as_exit(), tempfile.TemporaryDirectory(prefix="deltaplane-guest-") as folder:
        try:
            return machine.run(
                said.command, said.results or Path(folder), limit=said.limit, environment=_environment(), said=_print
            )
        except machine.GuestFailed as failure:
            print(f"guest: {failure}", file=sys.stderr)
            return 3


def _environment() -> dict[str, str]:
    names = ("PYTEST_ADDOPTS", "DELTAPLANE_PARTS", "COLUMNS")
    return {name: os.environ[name] for name in names if name in os.environ} | {"PYTHONUNBUFFERED": "1"}


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
