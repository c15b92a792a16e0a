"""Work that one replica alone does for as long as it can keep a Lease; another goes on with it after that.

    await Term(lease).run(work)  # runs `work()` while this replica holds the Lease, again after each loss

The work is cancelled before another may begin. Its last write may be on its way still, and a process that was stopped
for long comes back in the middle of it: so the work asks `lease.valid` before each write, and each write must be one
that its successor bears.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from controlplane.lease import Lease
from controlplane.source.resource import ApiError
from deltaplane.logs import event
from deltaplane.once import Once
from deltaplane.supervise import Job, together

log = logging.getLogger(__name__)


class Term:
    """Terms of one Lease. `sleep`: for the seconds that it is given."""

    def __init__(self, lease: Lease, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._lease, self._times, self._sleep = lease, lease.times, sleep
        self._said = Once[str]()

    async def run(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Runs the work while the Lease is held. Raises what the work raises; the Lease is given back then."""
        lease = self._lease
        while True:
            await self._acquire()
            event(log, logging.INFO, "lease acquired", lease=lease.name, holder=lease.me)
            try:
                await together(Job(f"lease {lease.name}", self._renew(), finishes=True), Job(lease.name, work()))
            finally:
                await lease.leave()
            lease.losses += 1
            event(log, logging.WARNING, "lease lost", lease=lease.name, holder=lease.holder)

    async def _acquire(self) -> None:
        while not await self._try():
            await self._sleep(self._times.period * random.uniform(1.0, 1.2))

    async def _renew(self) -> None:
        """Returns when the Lease is lost, or can no longer be known to be held."""
        lease = self._lease
        end = lease.clock() + self._times.deadline
        while (left := end - lease.clock()) > 0:
            await self._sleep(min(self._times.period, left))
            began = lease.clock()
            if began >= end:
                break
            if await self._try(end - began):
                end = began + self._times.deadline
            elif lease.others:
                break
        lease.held = False

    async def _try(self, limit: float | None = None) -> bool:
        """One try to get or keep it; whether this replica holds it now. What goes wrong is told once."""
        lease = self._lease
        try:
            taken = await (lease.take() if limit is None else lease.take(limit))
        except ApiError as error:
            if self._said.note(lease.name, str(error)):
                event(log, logging.WARNING, "cannot ask for the lease", lease=lease.name, reason=str(error))
            return False
        if self._said.clear(lease.name):
            event(log, logging.INFO, "the lease can be asked for again", lease=lease.name)
        return taken
