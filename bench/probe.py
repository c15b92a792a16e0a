"""Connections again and again from one namespace, to see when a Service first answers from a new endpoint.

Called by `packet`, with one prober per node. Each attempt is a new TCP connection; the servers of tools/lab/echo.py say
who they are. A Service spreads over its endpoints, so an attempt meets the new one only now and then: attempts are
`PACE` apart, which is the resolution of what is measured here.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field

from tools.lab.echo import LINGER_RESET
from tools.lab.netns import Namespace

PACE = 0.0005  # seconds between two attempts in the first EAGER seconds of a watch
PACE_LATER = 0.002
EAGER = 0.05


@dataclass
class Watch:
    """A wait for endpoint `name` behind this address. Times are `time.perf_counter` seconds."""

    address: str
    port: int
    name: str
    since: float = field(default_factory=time.perf_counter)
    seen: float = 0.0
    attempts: int = 0
    due: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)


class Prober:
    """A thread that lives in the namespace."""

    def __init__(self, space: Namespace) -> None:
        self._space = space
        self._watches: list[Watch] = []
        self._fresh: list[Watch] = []
        self._stop = False
        self._selector = selectors.DefaultSelector()
        self._near, self._far = socket.socketpair()
        self._selector.register(self._near, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name=f"probe-{space.name}", daemon=True)
        self._thread.start()

    def watch(self, address: str, port: int, name: str) -> Watch:
        """Starts looking; `Watch.over` is set when the endpoint has answered."""
        watch = Watch(address, port, name)
        self._fresh.append(watch)
        self._far.send(b"!")
        return watch

    def close(self) -> None:
        """Ends the thread."""
        self._stop = True
        self._far.send(b"!")
        self._thread.join()
        self._near.close()
        self._far.close()
        self._selector.close()

    def _run(self) -> None:
        with self._space.entered():
            while not self._stop:
                self._round()

    def _round(self) -> None:
        while self._fresh:
            self._watches.append(self._fresh.pop())
        now = time.perf_counter()
        for watch in self._watches:
            if watch.due <= now:
                self._attempt(watch, now)
        pause = min((watch.due for watch in self._watches), default=now + 1.0) - now
        for key, _ in self._selector.select(max(0.0, pause)):
            if key.data is None:
                self._near.recv(64)
            elif isinstance(key.fileobj, socket.socket):
                self._hear(key.fileobj, key.data)
        self._watches = [watch for watch in self._watches if not watch.seen]

    def _attempt(self, watch: Watch, now: float) -> None:
        attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        attempt.setblocking(False)
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        with contextlib.suppress(BlockingIOError):
            attempt.connect((watch.address, watch.port))
        self._selector.register(attempt, selectors.EVENT_READ, watch)
        watch.attempts += 1
        watch.due = now + (PACE if now - watch.since < EAGER else PACE_LATER)

    def _hear(self, attempt: socket.socket, watch: Watch) -> None:
        now = time.perf_counter()
        name = b""
        with contextlib.suppress(OSError):
            name = attempt.recv(512).partition(b" ")[0]
        self._selector.unregister(attempt)
        attempt.close()
        if name.decode() == watch.name and not watch.seen:
            watch.seen = now
            watch.over.set()
