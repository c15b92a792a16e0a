"""What is measured of one proxy. Each scenario returns raw numbers, in seconds and KiB, that `results` keeps.

All but the start expect a proxy that runs and has nothing left to do. Processor time is the program's, with that of the
programs it started; `beside` is the control plane's, once for all nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bench import machine
from bench.compare import seen
from bench.compare.contenders import Proxy
from bench.compare.scene import Scene
from bench.compare.seen import Arrival, Commits, Steady, settled
from bench.probe import Prober
from tools.lab.process import Process, ProcessFailed

Raw = dict[str, Any]
LIMIT = 600.0  # seconds until a start, or a change, counts as not done
SAMPLES = 400  # Services that a start is seen by
RATE, WATCHED = 100, 20  # changes per second; one in so many is looked for by packets


@dataclass
class Run:
    """A proxy that runs, and who looks at it."""

    scene: Scene
    proxy: Proxy
    process: Process
    commits: Commits
    prober: Prober
    quick: bool = False
    _spent: dict[int, float] = field(default_factory=dict)

    @property
    def client(self) -> Any:
        return self.proxy.node.clients[0].space

    def settle(self) -> None:
        """Waits until it has nothing left to do. Raises `ProcessFailed` where it does not come to that."""
        if not settled(self.process, self.commits, LIMIT):
            raise ProcessFailed(f"{self.proxy.who.name}: not at rest within {LIMIT:g} s")

    @contextmanager
    def costs(self, raw: Raw) -> Iterator[None]:
        """Notes the processor time until it is at rest again, less the time of waiting for that."""
        beside = self.proxy.beside
        watched = [self.process, *([beside] if beside else [])]
        before, began = [machine.cpu_of_all(process.pid) for process in watched], time.perf_counter()
        yield
        self.settle()
        spent = [machine.cpu_of_all(process.pid) - was for process, was in zip(watched, before, strict=True)]
        raw["cpu"], raw["during"] = spent[0], time.perf_counter() - began
        if beside:
            raw["beside"] = spent[1]


@contextmanager
def running(scene: Scene, proxy: Proxy, *, quick: bool) -> Iterator[Run]:
    """Started on a clean node, and at rest; stopped at the end."""
    proxy.cold()
    proxy.make_room()
    commits = Commits(proxy.node.space)
    prober = Prober(proxy.node.clients[0].space)
    try:
        run = Run(scene, proxy, proxy.start(), commits, prober, quick)
        run.settle()
        yield run
    finally:
        prober.close()
        commits.close()
        proxy.stop()


def start(scene: Scene, proxy: Proxy, *, quick: bool) -> Raw:
    """From exec on a clean node until the last of the sampled Services is reached by a packet."""
    proxy.cold()
    commits = Commits(proxy.node.space)
    client = proxy.node.clients[0].space
    step = max(1, len(scene.addresses) // SAMPLES)
    arrival = Arrival(client, scene.addresses[::step])
    try:
        began = time.perf_counter()
        process = proxy.start()
        if not _arrived(arrival, process):
            return {"failed": True, "seconds": LIMIT, "cpu": machine.cpu_of_all(process.pid)}
        raw = {"seconds": arrival.at - began, "cpu": machine.cpu_of_all(process.pid)}
        settled(process, commits, LIMIT)
        raw |= {"cpu_settled": machine.cpu_of_all(process.pid), "last_commit": commits.last - began}
        raw |= {"rss": machine.rss(process.pid), "peak": machine.rss_peak(process.pid)}
        missing = seen.unreached(client, scene.addresses[:: 1 if not quick else step])
        if missing:
            raise ProcessFailed(f"{proxy.who.name}: {len(missing)} Services are not served: {missing[:5]}")
        return raw
    finally:
        arrival.close()
        commits.close()
        proxy.stop()


def _arrived(arrival: Arrival, process: Process) -> bool:
    deadline = time.perf_counter() + LIMIT
    while not arrival.done.wait(0.2):
        if not process.running:
            raise ProcessFailed(f"{process.name} ended with {process.exit_code}:\n{process.tail()}")
        if time.perf_counter() > deadline:
            return False
    return True


def change(run: Run) -> Raw:
    """One endpoint is replaced in one Service, and seen, before the next one is."""
    number = 5 if run.quick else 20
    raw: Raw = {"packet": [], "idle": _idle(run, 3.0 if run.quick else 10.0), "lost": 0}
    with run.costs(raw):
        for _ in range(number):
            watch = run.scene.watched_change(run.prober)
            if watch.over.wait(60):
                raw["packet"].append(watch.seen - watch.since)
            else:
                raw["lost"] += 1
            time.sleep(run.scene.pause())
    raw["changes"] = number
    return raw


def _idle(run: Run, seconds: float) -> float:
    """Processor seconds per second while nothing changes."""
    before = machine.cpu_of_all(run.process.pid)
    time.sleep(seconds)
    return (machine.cpu_of_all(run.process.pid) - before) / seconds


def big(run: Run) -> Raw:
    """One of the thousand endpoints of one Service is replaced: until the kernel has it.

    That is the last commit: iptables-restore commits table by table, and kube-proxy writes filter before nat.
    """
    number = 3 if run.quick else 10
    raw: Raw = {"kernel": [], "lost": 0, "changes": number}
    with run.scene.big_service():
        run.settle()
        with run.costs(raw):
            for _ in range(number):
                since = run.scene.big_change()
                run.settle()
                if run.commits.last > since:
                    raw["kernel"].append(run.commits.last - since)
                else:
                    raw["lost"] += 1
    run.settle()
    return raw


def rate(run: Run) -> Raw:
    """A hundred changes per second; how late they are says one in twenty, by packets."""
    number = RATE * (10 if run.quick else 60)
    raw: Raw = {"changes": number}
    watches = []
    with run.costs(raw):
        began = time.perf_counter()
        for index in range(number):
            time.sleep(max(0.0, began + index / RATE - time.perf_counter()))
            if index % WATCHED:
                run.scene.change()
            else:
                watches.append(run.scene.watched_change(run.prober))
        written = time.perf_counter()
        raw["written"] = written - began
        for watch in watches:
            watch.over.wait(60)
    raw["packet"] = [watch.seen - watch.since for watch in watches if watch.over.is_set()]
    raw["lost"] = len(watches) - len(raw["packet"])
    raw["after"] = max(0.0, run.commits.last - written)
    return raw


def zone(run: Run) -> Raw:
    """A third of all endpoints goes at once, and comes back: until the kernel's last commit for it."""
    return {"gone": _at_once(run, run.scene.zone_lost), "back": _at_once(run, run.scene.zone_back)}


def _at_once(run: Run, made: Callable[[], Any]) -> Raw:
    changes, raw = made(), Raw()
    with run.costs(raw):
        began = time.perf_counter()
        changes.write(run.scene.api)
        raw["writes"] = time.perf_counter() - began
    raw["seconds"] = run.commits.last - began
    return raw


def restart(run: Run) -> Raw:
    """Stopped and started: until it serves what was changed meanwhile. What fails of steady connections is counted."""
    raw: Raw = {"rounds": []}
    steady = Steady(run.client, run.scene.addresses[0])
    try:
        for _ in range(1 if run.quick else 3):
            run.proxy.stop()
            watch = run.scene.watched_change(run.prober)
            began = time.perf_counter()
            run.process = run.proxy.start()
            with suppress(ProcessFailed):
                watch.over.wait(LIMIT)
            raw["rounds"].append({"seconds": watch.seen - began, "cpu": machine.cpu_of_all(run.process.pid)})
            run.settle()
    finally:
        steady.close()
    return raw | {"tried": steady.tried, "failed": steady.failed}


def memory(run: Run) -> Raw:
    """Resident now, after all of it, and the most there was; of the process that runs."""
    pid = run.process.pid
    raw = {"rss": machine.rss(pid), "peak": machine.rss_peak(pid)}
    if run.proxy.beside:
        raw |= {"beside": machine.rss(run.proxy.beside.pid), "beside_peak": machine.rss_peak(run.proxy.beside.pid)}
    return raw


WHILE_RUNNING: dict[str, Callable[[Run], Raw]] = {
    "change": change,
    "big": big,
    "rate": rate,
    "memory": memory,
    "zone": zone,
    "restart": restart,
}
"""In this order; a start comes first, and memory before what a zone and a restart do to it."""
