"""When a commit that failed is tried again, and what is logged of it. Kept by the programmer.

Each refusal and each object that is not in the kernel is logged once, and once more when it is over.
"""

from __future__ import annotations

import logging
from collections import deque
from math import inf

from deltaplane.backoff import Backoff
from deltaplane.logs import event
from deltaplane.model import ObjectKey
from deltaplane.once import Once
from nodeagent.dataplane.outcome import Failed

log = logging.getLogger(__name__)

BACKOFF = Backoff(0.5, 30.0)  # seconds between tries at what the kernel refused
MANY, WITHIN = 10, 60.0  # repairs in so many seconds: another program writes the same tables
AGAIN = 600.0  # seconds until that is logged again


class CommitRetries:
    """`stuck`: why the kernel refuses everything, empty if it does not. `retry_at`: the next try, monotonic seconds."""

    def __init__(self) -> None:
        self.stuck = ""
        self.retry_at = 0.0
        self._tries = 0  # in a row, of what fails now
        self._failed: Once[ObjectKey] = Once()
        self._repairs: deque[float] = deque(maxlen=MANY)
        self._fight_told = -inf

    def retrying(self, now: float) -> None:
        """A try begins; the one after it waits longer."""
        self._tries += 1
        self._wait(now)

    def refused(self, reason: str, now: float) -> None:
        """The kernel took nothing."""
        if reason != self.stuck:
            event(log, logging.ERROR, "kernel refuses; retrying", reason=reason)
        self.stuck = reason
        self._wait(now)

    def accepted(self, failed: tuple[Failed, ...], now: float) -> None:
        """The kernel took everything but these."""
        if self.stuck:
            event(log, logging.INFO, "kernel accepts again")
        self.stuck = ""
        self._log(failed)
        if not failed:
            self._tries = 0
        elif self.retry_at <= now:
            self._wait(now)

    def repaired(self, elements: int, now: float) -> None:
        """Others had changed our tables; `elements` were written to repair them."""
        event(log, logging.WARNING, "others changed our tables: put right", elements=elements)
        self._repairs.append(now)
        if len(self._repairs) == MANY and now - self._repairs[0] <= WITHIN and now - self._fight_told >= AGAIN:
            self._fight_told = now
            event(
                log, logging.ERROR, "our tables are changed again and again",
                advice="another agent, kube-proxy or a firewall writes them on this node too: find it and stop one",
            )  # fmt: skip

    def _wait(self, now: float) -> None:
        self.retry_at = now + BACKOFF.delay(self._tries)

    def _log(self, failed: tuple[Failed, ...]) -> None:
        """One line for an object, whatever fails of it: its first failure by text, and how many more there are."""
        texts: dict[ObjectKey, set[tuple[str, str]]] = {}
        for item in failed:
            texts.setdefault(item.key, set()).add((item.code, item.text))
        for key, found in texts.items():
            (code, text), *more = sorted(found)
            if self._failed.note(key, f"{len(more)} {code} {text}"):
                event(log, logging.ERROR, "object not in the kernel", object=key, code=code, text=text, more=len(more))
        for key in self._failed.retain(texts):
            event(log, logging.INFO, "object in the kernel again", object=key)
