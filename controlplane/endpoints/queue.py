"""Which Services wait to be synced: each once, in order, never twice at a time, and after a failure with a delay.

A Service that changes while it is synced is synced again. One that changes while it waits for its delay waits for a
second at most, or for as long as the server asked: what was refused may be one slice of many, and the change be of
another. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Protocol

from controlplane.endpoints.values import Name
from deltaplane.backoff import Backoff, Jitter, Retries

DELAYS = Backoff(0.1, 60.0)  # seconds
CHANGED = 1.0  # seconds after a failure, from which on a change is a reason to try again


class Timer(Protocol):
    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls the function after so many seconds (`loop.call_later`)."""


class Queue:
    """`take` the next, then tell `done` or `failed`."""

    def __init__(self, later: Later | None = None, jitter: Jitter = random.random) -> None:
        self._later = later
        self._jitter = jitter
        self._due: dict[Name, None] = {}
        self._busy: set[Name] = set()
        self._again: set[Name] = set()
        self._waiting: dict[Name, Timer] = {}
        self._changed: set[Name] = set()  # of those that wait
        self._patient: set[Name] = set()  # those that wait for `CHANGED` already
        self._retries: dict[Name, Retries] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """How many are to be synced, those with a delay and those at work included."""
        return len(self._due) + len(self._busy) + len(self._waiting)

    @property
    def failing(self) -> int:
        """How many have failed and not succeeded since."""
        return len(self._retries)

    def add(self, names: Iterable[Name]) -> None:
        """These have changed."""
        for name in names:
            if name in self._busy:
                self._again.add(name)
            elif name not in self._waiting:
                self._due[name] = None
                self._news.set()
            elif name in self._patient:
                self._waiting[name].cancel()
                self._ready(name)
            else:
                self._changed.add(name)

    async def take(self) -> Name:
        """The one that has waited longest."""
        while not self._due:
            self._news.clear()
            await self._news.wait()
        name = next(iter(self._due))
        del self._due[name]
        self._busy.add(name)
        return name

    def done(self, name: Name) -> None:
        """It was synced."""
        self._retries.pop(name, None)
        self._busy.discard(name)
        if name in self._again:
            self._again.discard(name)
            self.add([name])

    def failed(self, name: Name, at_least: float = 0.0) -> float:
        """It was not, and is tried again after a delay, in seconds, which is returned."""
        self._busy.discard(name)
        if name in self._again:
            self._again.discard(name)
            self._changed.add(name)
        # Half of each delay is fixed: a conflict's retry has to come after the word that it waits for.
        retries = self._retries.setdefault(name, Retries(DELAYS, lambda: 0.5 + self._jitter() / 2))
        delay = max(at_least, retries.failed())
        soon = max(at_least, min(delay, CHANGED))
        self._wait(name, soon, lambda: self._soon(name, delay - soon))
        return delay

    def _wait(self, name: Name, delay: float, then: Callable[[], None]) -> None:
        later = self._later or asyncio.get_running_loop().call_later
        self._waiting[name] = later(delay, then)

    def _soon(self, name: Name, rest: float) -> None:
        if rest <= 0 or name in self._changed:
            self._ready(name)
        else:
            self._patient.add(name)
            self._wait(name, rest, lambda: self._ready(name))

    def _ready(self, name: Name) -> None:
        del self._waiting[name]
        self._changed.discard(name)
        self._patient.discard(name)
        self.add([name])

    def close(self) -> None:
        """Nothing comes any more."""
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
