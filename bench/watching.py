"""(f): what it costs a server to be watched: waiters, traces, a collector that does not answer, and its own metrics.

One server with simulated agents (`fanout`), one flow of changes; what watches it changes by turns, so that other load
on the machine is the same for all. Costs are CPU time of the server's process. Rounds come at a fixed pace
(`watching_server`): the product's own makes them rarer where they cost more.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct, field

from bench import machine
from bench.fanout import ENDPOINTS, SERVICES, median
from bench.fanout_commands import Child

STREAMS, RATE, WAITERS = 1_000, 100.0, 100
SECONDS, SETTLE = 8.0, 2.0
ROUNDS = 6
SAMPLED = 0.01


class Setting(Struct, frozen=True):
    """What watches the server. `waiters`: what they wait for. `collector`: "up", "down" or "stuck"."""

    title: str
    waiters: str = ""
    collector: str = ""
    metrics: bool = True
    most: float | None = None  # times the CPU of the plain server


PLAIN = Setting("nothing but the metrics")
SETTINGS = (
    Setting(f"{WAITERS} wait for what does not come", waiters="standing", most=1.05),
    Setting(f"{WAITERS} wait for a Service, and at once for the next", waiters="service", most=1.05),
    Setting(f"{SAMPLED:.0%} traced, the collector takes it", collector="up", most=1.05),
    Setting(f"{SAMPLED:.0%} traced, nothing listens there", collector="down", most=1.05),
    Setting(f"{SAMPLED:.0%} traced, the collector never answers", collector="stuck", most=1.05),
    Setting("without the metrics of propagation", metrics=False),
)


class Turn(Struct):
    """Some seconds with one setting. `change`: CPU seconds of each. Deltas and Acks a second, of each stream."""

    change: float
    deltas: float
    acks: float
    answers: float = 0.0  # to waiters
    waited: float = 0.0  # seconds, the median
    failed: int = 0
    spans: float = 0.0


class Watched(Struct):
    """A setting, each of its turns, and the plain server's cost just before and after that."""

    setting: Setting
    turns: list[Turn] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Times the CPU of the plain server."""
        return [turn.change / plain for turn, plain in zip(self.turns, self.beside, strict=True)]


class Found(Struct):
    plain: list[Turn]
    settings: list[Watched]
    seconds: float  # of a turn
    others: float  # share of the machine that others took


class Stage(Struct):
    """The processes; `collectors` by what they do, HOST:PORT."""

    server: Child
    agents: Child
    callers: Child
    collector: Child
    collectors: dict[str, str]


def measure(*, quick: bool = False) -> Found:
    """All settings by turns, a turn of the plain server between any two."""
    others, own = machine.Others(), machine.own_cpu()
    with _stage() as stage:
        stage.server.ask("expect", agents=STREAMS)
        stage.agents.ask("join", number=STREAMS)
        seconds = 4.0 if quick else SECONDS
        _turn(stage, PLAIN, seconds)
        found = [Watched(setting) for setting in SETTINGS]
        plain = [_turn(stage, PLAIN, seconds)]
        for number in range(2 if quick else ROUNDS):
            for each in found if number % 2 else reversed(found):
                each.turns.append(_turn(stage, each.setting, seconds))
                plain.append(_turn(stage, PLAIN, seconds))
                each.beside.append((plain[-2].change + plain[-1].change) / 2)
    return Found(plain, found, seconds, max(0.0, others.share(machine.own_cpu() - own)))


@contextmanager
def _stage() -> Iterator[Stage]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server, up, down = _free(), _free(), _free()
    with contextlib.ExitStack() as ends:
        stuck = ends.enter_context(
            socket.create_server(("127.0.0.1", 0), backlog=128)
        )  # takes connections, says nothing

        def child(module: str, *arguments: object) -> Child:
            made = Child(module, *arguments, stderr=subprocess.DEVNULL)
            ends.callback(made.end)
            return made

        places = {"up": up, "down": down, "stuck": f"127.0.0.1:{stuck.getsockname()[1]}"}
        yield Stage(
            child("bench.watching_server", server, SERVICES, ENDPOINTS),
            child("bench.fanout_agents", server, SERVICES, ENDPOINTS),
            child("bench.watching_callers", server, SERVICES),
            child("bench.watching_collector", up),
            places,
        )


def _free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _turn(stage: Stage, setting: Setting, seconds: float) -> Turn:
    """The flow runs for SETTLE seconds before anything is counted."""
    ratio = SAMPLED if setting.collector else 0.0
    endpoint = stage.collectors.get(setting.collector, "")
    stage.server.ask("traced", metrics=setting.metrics, endpoint=endpoint, ratio=ratio)
    if setting.waiters:
        stage.callers.ask("begin", number=WAITERS, what=setting.waiters)
    stage.server.ask("flow", rate=RATE, seconds=SETTLE)
    before, spans = stage.agents.ask("count"), stage.collector.ask("count")["spans"]
    flow = stage.server.ask("flow", rate=RATE, seconds=seconds)
    after = stage.agents.ask("count")
    waited: dict[str, Any] = stage.callers.ask("end") if setting.waiters else {"took": [], "failed": 0}
    time.sleep(0.6)  # what is exported now and then comes
    turn = Turn(
        change=flow["cpu"] / (RATE * seconds),
        **{name: (after[name] - before[name]) / STREAMS / flow["took"] for name in ("deltas", "acks")},
        answers=len(waited["took"]) / flow["took"],
        failed=waited["failed"],
        spans=(stage.collector.ask("count")["spans"] - spans) / flow["took"],
    )
    turn.waited = median(waited["took"]) if waited["took"] else 0.0
    return turn
