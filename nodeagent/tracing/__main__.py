"""`python -m nodeagent.tracing`: traces one flow and prints what it saw as JSON. Exit code 1 with `error` set.

Ended early (SIGTERM, SIGINT, the end of whoever started it), it takes its rules away first.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import sys

import msgspec

from deltaplane.addresses import parse_address
from nodeagent.errors import AgentError
from nodeagent.tracing.flow import Flow, Traced
from nodeagent.tracing.trace import trace

LONGEST = 60.0  # seconds
_PR_SET_PDEATHSIG = 1


def main() -> int:
    given = _arguments()
    _end_with_the_parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    flow = Flow(parse_address(given.source), parse_address(given.address), given.port, given.protocol)
    try:
        found = trace(flow, min(given.timeout, LONGEST), wait=given.wait)
    except (AgentError, OSError) as error:
        found = Traced(0, error=str(error))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return 1 if found.error else 0


def _leave(number: int, frame: object) -> None:  # noqa: ARG001 - as the module signal calls it
    sys.exit(128 + number)


def _end_with_the_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nodeagent.tracing", description=__doc__)
    parser.add_argument("source")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--protocol", type=int, default=6, help="IANA's number")
    parser.add_argument("--timeout", type=float, default=5.0)
    parser.add_argument("--wait", action="store_true", help="send nothing: the packet comes by itself")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
