"""`python -m bench [agent|cold|memory|packet ...] [--quick]`: measures, prints, and writes docs/performance.md.

Root on Linux, and nothing else of weight on the machine. `--quick` takes few samples and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from bench import agent, machine, packet, report

MEASUREMENTS: dict[str, Callable[[bool], str]] = {
    "agent": lambda quick: report.change(agent.change(quick=quick)),
    "cold": lambda quick: report.cold(agent.cold(quick=quick)),
    "memory": lambda quick: report.memory(agent.memory(quick=quick)),
    "packet": lambda quick: report.packet(packet.measure(quick=quick), packet.reference_version()),
}


def main() -> int:
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("which", nargs="*", metavar="NAME", help=f"{', '.join(MEASUREMENTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few samples, for a look; docs/performance.md stays")
    given = parser.parse_args()
    unknown = [name for name in given.which if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"no measurement called {unknown[0]}: choose from {', '.join(MEASUREMENTS)}")
    if sys.platform != "linux" or os.geteuid() != 0:
        print("bench: network namespaces need root on Linux: run `make bench`", file=sys.stderr)
        return 1
    for name in given.which or MEASUREMENTS:
        print(f"== {name}: {machine.description()}", flush=True)
        body = MEASUREMENTS[name](given.quick)
        print(body, flush=True)
        if not given.quick:
            report.section(name, body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
