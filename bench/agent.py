"""(a), (b) and memory: an agent at several sizes of cluster. Called by `__main__`.

Each agent is a process of its own in a fresh network namespace: for (a) and (b) without the network (`node`), for
memory the real program, fed by a real server (`replica`).
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import cluster, machine
from tools.lab import netns, rules
from tools.lab.deltaplane import COMMAND
from tools.lab.netns import Namespace
from tools.lab.process import Process

SIZES = (100, 1_000, 10_000)
ENDPOINTS = 10
PAUSE = 0.001  # seconds between two changes
TRIES, DISTURBED = 6, 0.08
SERVER = "127.0.0.1:50051"


@dataclass
class Changes:
    """(a) at one size, of all rounds. Times in seconds; `commits` are (messages, elements, bytes)."""

    services: int
    took: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    commits: list[tuple[int, int, int]] = field(default_factory=list)
    rss_kib: int = 0
    others: float = 0.0  # the largest share of the machine that others took during a round


@dataclass(frozen=True)
class Memory:
    """What the real agent's process has resident, in KiB."""

    loaded: int
    followed: int  # after `changes` changes
    peak: int
    changes: int
    cpu: float  # seconds per change, at 200 changes per second


def change(*, quick: bool = False) -> list[Changes]:
    """(a): the sizes in turn, round after round, so that a noisy minute meets them all."""
    number, rounds = (300, 1) if quick else (2_000, 3)
    found = [Changes(services) for services in SIZES]
    with tempfile.TemporaryDirectory(prefix="deltaplane-bench-") as folder:
        streams = [_stream(Path(folder, f"{services}"), services, number) for services in SIZES]
        for _ in range(rounds):
            for sample, stream in zip(found, streams, strict=True):
                raw = _run(stream)
                sample.took += raw["took"]
                sample.cpu += raw["cpu"]
                sample.commits += map(tuple, raw["commits"])
                sample.others = max(sample.others, raw["others"])
                sample.rss_kib = max(sample.rss_kib, raw["rss_kib"])
    return found


def cold(*, quick: bool = False) -> list[dict[str, Any]]:
    """(b): the raw numbers of every round at the largest size."""
    with tempfile.TemporaryDirectory(prefix="deltaplane-bench-") as folder:
        stream = _stream(Path(folder, "stream"), SIZES[-1], 0)
        return [_run(stream) for _ in range(2 if quick else 7)]


def memory(*, quick: bool = False) -> Memory:
    """The real agent at the largest size: loaded, and after changes."""
    changes = 300 if quick else 2_000
    with _space() as space, tempfile.TemporaryDirectory(prefix="deltaplane-bench-") as name:
        rules.run(space, "ip", "link", "set", "lo", "up")
        folder = Path(name)
        sizes = map(str, (SIZES[-1], ENDPOINTS, changes))
        feed = [sys.executable, "-m", "bench.replica", SERVER, *sizes]
        replica = Process("replica", feed, folder / "replica.log", space)
        replica.wait_log("ready", 60)
        flags = (f"--server={SERVER}", "--insecure", f"--hostname-override={cluster.NODE}", f"--state-dir={folder}")
        cidrs = f"--cluster-cidr={','.join(cluster.CLUSTER_CIDRS)}"
        agent = Process("agent", [*COMMAND, "agent", *flags, cidrs], folder / "agent.log", space)
        agent.wait_log("kernel has the whole state", 60)
        time.sleep(2)
        loaded, spent = machine.rss(agent.pid), machine.cpu(agent.pid)
        replica.signal(signal.SIGUSR1)
        replica.wait_log("changed", 120)
        time.sleep(2)
        cost = (machine.cpu(agent.pid) - spent) / changes
        return Memory(loaded, machine.rss(agent.pid), machine.rss_peak(agent.pid), changes, cost)


def _stream(path: Path, services: int, changes: int) -> Path:
    replica = cluster.Replica(services, ENDPOINTS)
    with path.open("wb") as file:
        for message in replica.beginning():
            cluster.write(file, message)
        for _ in range(changes):
            cluster.write(file, replica.change())
    return path


def _run(stream: Path) -> dict[str, Any]:
    """One round; again, up to TRIES, where others took more than DISTURBED of the machine meanwhile."""
    for _ in range(TRIES):
        machine.quiet()
        others, own = machine.Others(), machine.own_cpu()
        raw = _round(stream)
        raw["others"] = max(0.0, others.share(machine.own_cpu() - own))
        if raw["others"] <= DISTURBED:
            break
    return raw


def _round(stream: Path) -> dict[str, Any]:
    with _space() as space, tempfile.TemporaryDirectory(prefix="deltaplane-bench-") as name:
        command: list[str | Path] = [sys.executable, "-m", "bench.node", stream, name, str(PAUSE)]
        node = Process("node", command, Path(name, "log"), space)
        if node.wait_end(300) != 0:
            raise RuntimeError(f"bench.node failed:\n{node.tail()}")
        raw: dict[str, Any] = json.loads(node.output().splitlines()[-1])
        return raw


@contextmanager
def _space() -> Iterator[Namespace]:
    space = netns.create("bench")
    try:
        yield space
    finally:
        netns.delete(space)
