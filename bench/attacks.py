"""What others notice of an attack: how soon a change is acknowledged by 100 healthy agents before, during and after it.

    python -m bench.attacks [NAME...] [--rounds N] [--changes N] [--against FOLDER]

The servers and the healthy agents are those of `fanout`, plain text; the attackers are a process of their own
(`attackers`). All of it shares one machine, and attackers need as much of it as who is attacked. So there are two
servers, and in the phase "beside" the attack is on the other one: what healthy agents notice then is the machine's
part, and the rest of what they notice in the phase "during" is the product's. Beside the times stands what the attacked
server did: CPU seconds per second in all and of the event loop's thread alone, how long it was ready to run and had to
wait for a processor (the kernel's schedstat), refusals per second, memory, and the longest turn of its loop.

`--against`: another checkout of this project, with this bench, whose server is measured by turns with this one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench import machine
from bench.attackers import ATTACKS
from bench.fanout import pair
from bench.fanout_commands import Child
from bench.report import quantile

AGENTS = 100
PAUSE = 0.2  # seconds between two changes
HISTORY = 29_000  # revisions, where they are to be merged
COUNTED = ("cpu", "loop_cpu", "waited", "refused")


class Phase(Struct):
    """Milliseconds until an agent's Ack of a change, and what the server's process did meanwhile."""

    median: float
    p99: float
    longest: float
    core: float  # CPU seconds per second
    loop: float  # likewise, of the event loop's thread alone
    waited: float  # seconds per second that it was ready and did not run, all threads together
    refused: float  # per second
    mib: float
    longest_turn: float  # milliseconds; 0: none was longer than 50


def phase(server: Child, changes: int) -> Phase:
    before, began = usage(server), time.monotonic()
    took: list[float] = []
    for _ in range(changes):
        time.sleep(PAUSE)
        took += server.ask("change", awaited=True, number=AGENTS)["took"]
    seconds, after = time.monotonic() - began, usage(server)
    took.sort()
    share = {name: (after[name] - before[name]) / seconds for name in COUNTED}
    return Phase(
        1e3 * took[len(took) // 2], 1e3 * quantile(took, 0.99), 1e3 * took[-1],
        share["cpu"], share["loop_cpu"], share["waited"], share["refused"], after["rss_kib"] / 1024,
        1e3 * after["longest_turn"],
    )  # fmt: skip


def usage(server: Child) -> dict[str, Any]:
    """With seconds that all threads of the server waited for a processor, and the loop's longest turn since."""
    waited = sum(
        int(thread.joinpath("schedstat").read_text().split()[1])
        for thread in Path(f"/proc/{server.pid}/task").iterdir()
    )
    return {**server.ask("usage", afresh=True), "waited": waited / 1e9}


@contextmanager
def attacked(server: Child, address: str, name: str) -> Iterator[None]:
    """The attack on this server while the context is open."""
    what = {"health": server.ask("usage")["health"]}
    if name.startswith("merges"):
        what |= server.ask("history", number=HISTORY)
        server.ask("change", awaited=True)  # the healthy agents have all of it before anything is measured
    attacker = Child("bench.attackers", address, name, json.dumps(what), stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        yield
        if not attacker.running:
            raise RuntimeError(f"the attack {name} ended by itself")
    finally:
        attacker.end()


def attack(name: str, changes: int, folder: str) -> Iterator[tuple[str, Phase]]:
    """The phases, in order. `folder`: of the code that is measured."""
    with ExitStack() as ends:
        server, agents, address = ends.enter_context(pair(folder=folder))
        other, _, elsewhere = ends.enter_context(pair(folder=folder))
        agents.ask("join", number=AGENTS)
        time.sleep(1.0)
        yield "before", phase(server, changes)
        with attacked(other, elsewhere, name):
            yield "beside", phase(server, changes)
        with attacked(server, address, name):
            yield "during", phase(server, changes)
        time.sleep(1.0)
        yield "after", phase(server, changes)


HEAD = (
    "| attack | code | phase | p50 ms | p99 ms | longest ms | core | of it the loop | waited for a core | refused/s "
    "| MiB | longest turn ms |\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def row(name: str, code: str, when: str, one: Phase) -> str:
    return (
        f"| {name} | {code} | {when} | {one.median:.0f} | {one.p99:.0f} | {one.longest:.0f} | {one.core:.0%} "
        f"| {one.loop:.0%} | {one.waited:.0%} | {one.refused:.0f} | {one.mib:.0f} | {one.longest_turn:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--changes", type=int, default=60, help="in each phase")
    parser.add_argument("--against", metavar="FOLDER", help="another checkout, measured by turns")
    given = parser.parse_args()
    codes = {"new": "", **({"old": given.against} if given.against else {})}
    print(f"{machine.description()}\n{HEAD}")
    for name in given.names or ATTACKS:
        for _ in range(given.rounds):
            for code, folder in codes.items():
                for when, one in attack(name, given.changes, folder):
                    print(row(name, code, when, one), flush=True)


if __name__ == "__main__":
    main()
