"""What another mode, or kube-proxy, has left in this kernel goes once everything wanted is in: a commit hook.

Not before, so that no packet is without rules; and not later, since what is left is what was true in the past. The Ack
goes first, and changes are served meanwhile, since looking at every mode takes a while. What connections go through
that were made before is left until they have ended, for a while: the kernel translates them apart from rules, but not
without IPVS's virtual servers, nor without the address where an agent ends that carries them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from deltaplane.logs import event
from nodeagent.dataplane.commit_hooks import CommitHook, Wanted
from nodeagent.dataplane.modes import Released
from nodeagent.dataplane.outcome import Commit
from nodeagent.errors import AgentError

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between two looks at what still carries connections


class Leftovers(CommitHook):
    """`remove` takes them away; told to be patient, not what is still used.

    It is called once, and again while something is used, for `seconds` at most. Where it fails, that is told, and it is
    tried again with the next complete state.
    """

    def __init__(
        self, remove: Callable[[bool], Released], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._remove, self._seconds, self._clock = remove, seconds, clock
        self._complete = self._done = self._told = False
        self._until = 0.0
        self.due = asyncio.Event()  # something may be there, or is still used

    async def run(self) -> None:
        """Looks when everything wanted is in, and again while something is still used."""
        while True:
            await self.due.wait()
            await self.look()
            if self.due.is_set():
                await asyncio.sleep(PAUSE)

    def want(self, wanted: Wanted) -> None:
        self._complete |= wanted.complete

    def committed(self, done: Commit, seconds: float) -> None:
        if not self._complete or self._done:
            return
        self._complete = False
        self._until = self._clock() + self._seconds
        self.due.set()

    async def look(self) -> None:
        """Removes what may go by now, in a thread: it has sockets and processes of its own."""
        try:
            found = await asyncio.to_thread(self._remove, self._clock() < self._until)
        except AgentError as error:
            self._done = False
            self.due.clear()
            event(log, logging.WARNING, "what another proxy left cannot be removed", reason=error)
            return
        self._done = True
        if found.removed:
            removed = "; ".join(found.removed)
            event(log, logging.INFO, "removed what another mode or kube-proxy left", removed=removed)
        if found.still_used and not self._told:
            what = "; ".join(found.still_used)
            event(log, logging.INFO, "what another mode left stays while connections go through it", what=what)
        self._told = bool(found.still_used)
        if not found.still_used:
            self.due.clear()
