"""`python -m bench compare`: measures what is missing below build/compare/, and writes docs/performance.md from it.

--sizes 100x3,1000x10     Services x endpoints (default: all five)
--only start,change,...   some scenarios: start, change, big, rate, memory, zone, restart
--contenders NAME,...     some of deltaplane-nftables, kube-proxy-nftables, deltaplane-iptables, kube-proxy-iptables
--rounds N                starts of each, by turns
--again                   measures anew what is there
--quick                   few samples, into build/compare-quick, and docs/performance.md stays
--tables                  measures nothing
--real-time               before all others on the machine, which stand still while anything is measured
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from bench import machine
from bench.compare import pages, results, scenarios
from bench.compare.contenders import CONTENDERS, Contender, Proxy
from bench.compare.scene import SIZES, Scene, Size, staged
from tools import progress
from tools.lab.process import ProcessFailed

SCENARIOS = ("start", *scenarios.WHILE_RUNNING)
FEW = 20_000  # endpoints; starts of smaller clusters are repeated more often


def main(arguments: Sequence[str]) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.quick and find_spec("matplotlib") is None:  # before anything is measured for an hour
        parser.error("matplotlib draws the plots and is not there: `make compare` installs it, --quick needs none")
    if given.quick:
        results.FOLDER = results.FOLDER.with_name("compare-quick")
    if given.real_time:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # what it starts has it, too
    if not given.tables:
        for size in given.sizes:
            _measure(size, given)
    if not given.quick:
        pages.write()
    print(pages.text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--sizes", type=_sizes, default=SIZES, metavar="SERVICESxENDPOINTS,...")
    parser.add_argument("--only", type=_among(SCENARIOS), default=SCENARIOS, metavar="SCENARIO,...")
    names = tuple(who.name for who in CONTENDERS)
    parser.add_argument("--contenders", type=_among(names), default=names, metavar="NAME,...")
    parser.add_argument("--rounds", type=int, default=0)
    for flag in ("--again", "--quick", "--tables", "--real-time"):
        parser.add_argument(flag, action="store_true")
    return parser


def _sizes(text: str) -> tuple[Size, ...]:
    return tuple(Size(*map(int, size.split("x"))) for size in text.split(","))


def _among(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name}: choose from {', '.join(known)}")
        return chosen

    return parse


def _measure(size: Size, given: argparse.Namespace) -> None:
    contenders = [who for who in CONTENDERS if who.name in given.contenders]
    rounds = given.rounds or (1 if given.quick else 5 if size.services * size.endpoints <= FEW else 3)
    todo = {who: _missing(size, who, given, rounds) for who in contenders}
    if not any(todo.values()):
        return
    with progress.shown("bench") as shown:
        shown.at(f"{size.title}: writing all objects")
        _staged(size, contenders, todo, rounds, shown, quick=given.quick)


def _staged(
    size: Size, contenders: list[Contender], todo: dict[Contender, list[str]], rounds: int, shown: progress.Progress, *,
    quick: bool,
) -> None:  # fmt: skip
    with staged(size, contenders) as stage:
        _starts(stage.scene, stage.proxies, todo, rounds, shown, quick=quick)
        for proxy in stage.proxies:
            shown.at(f"{size.title}: {proxy.who.name}")
            _scenarios(stage.scene, proxy, todo[proxy.who], quick=quick)


def _missing(size: Size, who: Contender, given: argparse.Namespace, rounds: int) -> list[str]:
    """What is to be measured: of `given.only` what is not there, or all of it."""
    if given.again:
        for name in given.only:
            results.drop(str(size), who.name, name)
    found = results.load(str(size), who.name)
    if _never(found):
        return []
    return [name for name in given.only if name not in found or (name == "start" and _short(found, rounds))]


def _never(found: dict[str, object]) -> bool:
    """Whether it was seen not to start at this size."""
    start = found.get("start")
    return isinstance(start, dict) and any(one.get("failed") for one in start["rounds"])


def _short(found: dict[str, object], rounds: int) -> bool:
    start = found.get("start")
    return isinstance(start, dict) and len(start["rounds"]) < rounds


def _starts(
    scene: Scene, proxies: Sequence[Proxy], todo: dict[Contender, list[str]], rounds: int, shown: progress.Progress, *,
    quick: bool,
) -> None:  # fmt: skip
    """By turns, so that a noisy minute meets all of them."""
    size = str(scene.size)
    for number in range(rounds):
        for proxy in proxies:
            who = proxy.who
            done = results.load(size, who.name).get("start", {}).get("rounds", [])
            if "start" not in todo[who] or len(done) > number or _never({"start": {"rounds": done}}):
                continue
            shown.at(f"{scene.size.title}: start {number + 1} of {rounds}, {who.name}")
            proxy.make_room()
            machine.quiet()
            results.add(size, who.name, "start", scenarios.start(scene, proxy, quick=quick))


def _scenarios(scene: Scene, proxy: Proxy, todo: Sequence[str], *, quick: bool) -> None:
    size, who = str(scene.size), proxy.who
    wanted = [name for name in todo if name != "start"]
    if not wanted or _never(results.load(size, who.name)):
        return
    try:
        with scenarios.running(scene, proxy, quick=quick) as run:
            for name in (name for name in scenarios.WHILE_RUNNING if name in wanted):
                results.keep(size, who.name, name, scenarios.WHILE_RUNNING[name](run))
    except ProcessFailed as failure:
        print(f"bench: {scene.size.title}: {failure}")
