"""Clients that connect at a steady rate while a test changes things, and the product on a folder of manifests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.lab import manifests
from tools.lab.client import REFUSED, RESET, TIMEOUT, UNREACHABLE, many, until
from tools.lab.deltaplane import Deployment
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace

BATCH = 10  # connections of one client in a row
FAILURES = frozenset({REFUSED, RESET, TIMEOUT, UNREACHABLE})
Aim = tuple[Namespace, str, int]  # from where, to which address and port


class Load:
    """What each client has got so far: names that answered and kinds of failure."""

    def __init__(self, aims: Sequence[Aim], rate: float) -> None:
        self._found = [Counter[str]() for _ in aims]
        self._over = threading.Event()
        interval = BATCH * len(aims) / rate
        pairs = zip(aims, self._found, strict=True)
        self._threads = [threading.Thread(target=self._run, args=(*pair, interval), daemon=True) for pair in pairs]

    def _run(self, aim: Aim, found: Counter[str], interval: float) -> None:
        space, address, port = aim
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            found.update(many(space, address, port, BATCH))
            due += interval

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def total(self) -> int:
        return sum(sum(found.copy().values()) for found in self._found)

    @property
    def failed(self) -> dict[str, int]:
        """How many of each kind, of all clients."""
        return {kind: count for kind, count in self._all().items() if kind in FAILURES}

    @property
    def names(self) -> set[str]:
        """Who answered."""
        return self._all().keys() - FAILURES

    def _all(self) -> Counter[str]:
        return sum((found.copy() for found in self._found), Counter[str]())

    def more(self, count: int, timeout: float = 60.0) -> None:
        """Until so many further connections were tried."""
        goal = self.total + count
        until(lambda: self.total >= goal, timeout, what=lambda: f"{goal} connections, {self.total} so far")


@contextmanager
def loaded(aims: Sequence[Aim], rate: float) -> Iterator[Load]:
    """The clients connect meanwhile, `rate` times a second in total."""
    load = Load(aims, rate)
    load.start()
    try:
        yield load
    finally:
        load.stop()


@contextmanager
def following(fabric: Fabric, folder: Path, *flags: str) -> Iterator[tuple[Path, Deployment]]:
    """The product, and the folder of manifests it follows; the nodes are in it. `flags`: the agents'."""
    at = folder / "manifests"
    at.mkdir()
    manifests.write(at / "nodes.yaml", *map(manifests.node_object, fabric.nodes))
    with Deployment(fabric, folder, "--source=manifests", f"--manifests={at}", agent_flags=flags) as line:
        line.start()
        yield at, line
