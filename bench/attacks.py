"""What others notice of an attack: how soon a change is acknowledged by 100 healthy agents before, during and after it.

    python -m bench.attacks [NAME...] [--rounds N]

The server and the healthy agents are those of `fanout`, plain text; the attackers are a process of their own
(`attackers`). All of it shares one machine, so beside the times stand what the server's process itself did: CPU
seconds per second, how long it was ready to run and had to wait for a processor (the kernel's schedstat), and the
longest turn of its event loop.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

from msgspec import Struct

from bench.attackers import ATTACKS
from bench.fanout import pair
from bench.fanout_commands import Child

AGENTS = 100
CHANGES = 60  # of each phase
PAUSE = 0.2  # seconds between two changes


class Phase(Struct):
    """Milliseconds until an agent's Ack of a change, and what the server's process did meanwhile."""

    median: float
    p99: float
    longest: float
    core: float  # CPU seconds per second
    waited: float  # seconds per second that it was ready and did not run
    longest_turn: float  # milliseconds


def phase(server: Child) -> Phase:
    before, began = usage(server), time.monotonic()
    took: list[float] = []
    for _ in range(CHANGES):
        time.sleep(PAUSE)
        took += server.ask("change", awaited=True, number=AGENTS)["took"]
    seconds, after = time.monotonic() - began, usage(server)
    took.sort()
    share = {name: (after[name] - before[name]) / seconds for name in ("cpu", "waited")}
    return Phase(
        1e3 * took[len(took) // 2], 1e3 * took[int(len(took) * 0.99)], 1e3 * took[-1],
        share["cpu"], share["waited"], 1e3 * after["longest_turn"],
    )  # fmt: skip


def usage(server: Child) -> dict[str, float]:
    """With seconds that all threads of the server waited for a processor, and the loop's longest turn since."""
    waited = sum(
        int(thread.joinpath("schedstat").read_text().split()[1])
        for thread in Path(f"/proc/{server.pid}/task").iterdir()
    )
    return {**server.ask("usage", afresh=True), "waited": waited / 1e9}


def attack(name: str) -> tuple[Phase, Phase, Phase]:
    """Before, during and after."""
    with pair() as (server, agents, address):
        agents.ask("join", number=AGENTS)
        time.sleep(1.0)
        phases = [phase(server)]
        attacker = Child("bench.attackers", address, name, stderr=subprocess.DEVNULL)
        try:
            time.sleep(1.0)
            phases.append(phase(server))
        finally:
            attacker.end()
        time.sleep(1.0)
        return phases[0], phases[1], phase(server)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    print("| attack | phase | p50 ms | p99 ms | longest ms | core | waited for a core | longest turn ms |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for name in given.names or ATTACKS:
        for _ in range(given.rounds):
            for when, one in zip(("before", "during", "after"), attack(name), strict=True):
                print(
                    f"| {name} | {when} | {one.median:.0f} | {one.p99:.0f} | {one.longest:.0f} | {one.core:.0%} "
                    f"| {one.waited:.0%} | {one.longest_turn:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
