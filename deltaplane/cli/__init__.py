"""The command `deltaplane`: dispatches to the two programs, which are imported only when asked for.

Exit codes: 0 done, 1 could not run (one line on standard error says what, where and what to do), 2 wrong usage.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import deltaplane
from deltaplane.flags import UsageError
from deltaplane.logs import line

PROGRAMS = {
    "controlplane": ("controlplane.main", "watch the Kubernetes API (or manifests) and stream deltas to node agents"),
    "agent": ("nodeagent.main", "run on a node: take the deltas and program the kernel"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one program and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["--version"], ["version"]):
        print(f"deltaplane {deltaplane.__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] not in PROGRAMS:
        print(f"deltaplane: unknown command {arguments[0]!r}; see `deltaplane --help`", file=sys.stderr)
        return 2
    return _run(arguments[0], arguments[1:])


def _run(program: str, arguments: list[str]) -> int:
    # gRPC's C core logs to standard error in its own form what it also raises; who wants to see that can still ask.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    entry = importlib.import_module(PROGRAMS[program][0])
    try:
        code: int = entry.main(arguments)
    except UsageError as error:
        print(line(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def _usage() -> str:
    lines = [f"  {name:14}{text}" for name, (_, text) in PROGRAMS.items()]
    return "\n".join(
        ["usage: deltaplane COMMAND [FLAGS]", "", *lines, "  version       print the version", "",
         "`deltaplane COMMAND --help` lists the flags."]
    )  # fmt: skip
