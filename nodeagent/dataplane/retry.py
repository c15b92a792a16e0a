"""What the kernel refuses, when it is tried again, and what is said of it. Kept by the agent.

Each refusal and each object that is not in the kernel is logged once, and once more when it is over.
"""

from __future__ import annotations

import logging
from collections import deque
from math import inf

from deltaplane.logs import event
from nodeagent.dataplane.outcome import Failed

log = logging.getLogger(__name__)

RETRY_FIRST = 0.5  # seconds between tries at what the kernel refused; doubles up to RETRY_LAST
RETRY_LAST = 30.0
MANY, WITHIN = 10, 60.0  # repairs in so many seconds: somebody else writes the same tables
AGAIN = 600.0  # seconds until that is said again


class Trouble:
    """`stuck`: why the kernel took nothing, empty while it does. `retry_at`: no try before (monotonic seconds)."""

    def __init__(self) -> None:
        self.stuck = ""
        self.retry_at = 0.0
        self._pause = RETRY_FIRST
        self._failed: tuple[Failed, ...] = ()
        self._repairs: deque[float] = deque(maxlen=MANY)
        self._fight_told = -inf

    def retrying(self, now: float) -> None:
        """A try begins; the next one comes later than this one did."""
        self._pause = min(RETRY_LAST, self._pause * 2)
        self.retry_at = now + self._pause

    def refused(self, reason: str, now: float) -> None:
        """The kernel took nothing."""
        if reason != self.stuck:
            event(log, logging.ERROR, "kernel refuses; retrying", reason=reason)
        self.stuck = reason
        self.retry_at = now + self._pause

    def accepted(self, failed: tuple[Failed, ...], now: float) -> None:
        """The kernel took everything but these."""
        if self.stuck:
            event(log, logging.INFO, "kernel accepts again")
        self.stuck = ""
        self._say(failed)
        self._failed = failed
        if not failed:
            self._pause = RETRY_FIRST
        elif self.retry_at <= now:
            self.retry_at = now + self._pause

    def repaired(self, elements: int, now: float) -> None:
        """Others had changed our tables; `elements` were written to put them right."""
        event(log, logging.WARNING, "others changed our tables: put right", elements=elements)
        self._repairs.append(now)
        if len(self._repairs) == MANY and now - self._repairs[0] <= WITHIN and now - self._fight_told >= AGAIN:
            self._fight_told = now
            event(
                log, logging.ERROR, "our tables are changed again and again",
                advice="another agent, kube-proxy or a firewall writes them on this node too: find it and stop one",
            )  # fmt: skip

    def _say(self, failed: tuple[Failed, ...]) -> None:
        before, now = set(self._failed), {item.key for item in failed}
        for item in failed:
            if item not in before:
                event(log, logging.ERROR, "object not in the kernel", object=item.key, code=item.code, text=item.text)
        for item in self._failed:
            if item.key not in now:
                event(log, logging.INFO, "object in the kernel again", object=item.key)
