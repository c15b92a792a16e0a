"""Connections again and again from one namespace, to see when a Service first reaches a new endpoint.

Called by `packet`, with one prober per node. The new endpoint listens and the others do not, so a connection that
succeeds went through it, and one that is refused did not: the kernels answer, no server program is in between. A
Service spreads over its endpoints, so only some attempts meet the new one: each look is `TRIES` of them in a row, and
what is seen is late by about `PACE`.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field

from tools.lab.echo import LINGER_RESET
from tools.lab.netns import Namespace

TRIES = 4
PACE = 0.0001  # seconds between two looks in the first EAGER seconds of a watch
PACE_LATER = 0.002
EAGER = 0.05


@dataclass
class Watch:
    """A wait for a connection to this address. Times are `time.perf_counter` seconds."""

    address: str
    port: int
    since: float
    seen: float = 0.0
    due: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)


class Prober:
    """A thread that lives in the namespace."""

    def __init__(self, space: Namespace) -> None:
        self._space = space
        self._watches: list[Watch] = []
        self._news = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name=f"probe-{space.name}", daemon=True)
        self._thread.start()

    def watch(self, address: str, port: int, since: float) -> Watch:
        """Starts looking; `Watch.over` is set when a connection was made."""
        watch = Watch(address, port, since)
        self._watches.append(watch)
        self._news.set()
        return watch

    def close(self) -> None:
        """Ends the thread."""
        self._stop = True
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        with self._space.entered():
            while not self._stop:
                self._round()

    def _round(self) -> None:
        now = time.perf_counter()
        for watch in list(self._watches):
            if watch.due <= now:
                self._look(watch)
        pause = min((watch.due for watch in self._watches), default=now + 3600) - time.perf_counter()
        if self._watches:
            time.sleep(max(0.0, pause))
        else:
            self._news.wait(1.0)
            self._news.clear()

    def _look(self, watch: Watch) -> None:
        if any(_reached(watch.address, watch.port) for _ in range(TRIES)):
            watch.seen = time.perf_counter()
            self._watches.remove(watch)
            watch.over.set()
        else:
            now = time.perf_counter()
            watch.due = now + (PACE if now - watch.since < EAGER else PACE_LATER)


def _reached(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        attempt.settimeout(0.2)
        try:
            attempt.connect((address, port))
        except OSError:
            return False
    return True
