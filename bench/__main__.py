"""`python -m bench [NAME ...] [--quick]`: measures and writes docs/performance.md.

NAME: agent, cold, memory, packet, fanout, watching, modes. Root on Linux, and nothing else of weight on the machine.
`--quick` takes few samples and writes nothing. For `modes`
`--mode iptables,nftables` takes some and `--sizes 1000x3,5000x10` other sizes; ipvs is measured in the guest
(`python -m tools.guest -- python -m bench modes --mode ipvs --quick`), whose files are gone with it. `compare` is a
command of its own: `python -m bench compare --help`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from bench import agent, fanout, fanout_report, machine, modes, packet, report, watching, watching_report
from bench.compare import main as compare
from tools import progress

MEASUREMENTS: dict[str, Callable[[argparse.Namespace], str]] = {
    "agent": lambda given: report.change(agent.change(quick=given.quick)),
    "cold": lambda given: report.cold(agent.cold(quick=given.quick)),
    "memory": lambda given: report.memory(agent.memory(quick=given.quick)),
    "packet": lambda given: report.packet(packet.measure(quick=given.quick), packet.reference_version()),
    "fanout": lambda given: fanout_report.fanout(fanout.measure(quick=given.quick), quick=given.quick),
    "watching": lambda given: watching_report.watching(watching.measure(quick=given.quick)),
    "modes": lambda given: report.modes(
        modes.measure(given.mode, given.sizes, quick=given.quick), packet.reference_version()
    ),
}


def main() -> int:
    if sys.argv[1:2] == ["compare"]:
        return _as_root() or compare.main(sys.argv[2:])
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("which", nargs="*", metavar="NAME", help=f"{', '.join(MEASUREMENTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few samples, for a look; docs/performance.md stays")
    parser.add_argument("--mode", type=lambda text: text.split(","), default=["nftables", "iptables", "ipvs"])
    parser.add_argument("--sizes", type=_sizes, default=modes.SIZES, metavar="SERVICESxENDPOINTS,...")
    given = parser.parse_args()
    unknown = [name for name in given.which if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"no measurement called {unknown[0]}: choose from {', '.join(MEASUREMENTS)}")
    if code := _as_root():
        return code
    names = list(given.which or MEASUREMENTS)
    with progress.shown("bench", len(names)) as shown:
        for name in names:
            shown.at(f"measuring {name}")
            body = MEASUREMENTS[name](given)
            shown.clear()
            print(f"== {name}: {machine.description()}\n{body}", flush=True)
            if not given.quick:
                report.section(name, body)
    return 0


def _as_root() -> int:
    if sys.platform != "linux" or os.geteuid() != 0:
        print("bench: network namespaces need root on Linux: run `make bench`", file=sys.stderr)
        return 1
    return 0


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (size.partition("x") for size in text.split(","))
    return tuple((int(services), int(endpoints)) for services, _, endpoints in pairs)


if __name__ == "__main__":
    sys.exit(main())
