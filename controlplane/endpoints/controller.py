"""One controller at work: a queue of Services that changed, and a few tasks that bring them up to date, for ever.

Nothing is lost by a failure: the Service is tried again after a delay, the others go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable

from controlplane.endpoints.makers import Maker
from controlplane.endpoints.queue import Queue
from controlplane.endpoints.values import Name
from controlplane.endpoints.writer import Conflict, Lost
from controlplane.source.resource import ApiError
from deltaplane.logs import event
from deltaplane.once import Once
from deltaplane.supervise import Job, together

log = logging.getLogger(__name__)

WORKERS = 8  # Services that are synced at a time
TEXTS = 1000  # failures that are remembered for the log


class Controller:
    """`syncs` counts by this controller's name and result: success, conflict, error, defect."""

    def __init__(self, name: str, maker: Maker, queue: Queue, syncs: Counter[tuple[str, str]]) -> None:
        self.name, self.queue = name, queue
        self._maker, self._syncs = maker, syncs
        self._failing = Once[Name](TEXTS)
        self.seconds = 0.0  # that syncs have taken

    def changed(self, names: Iterable[Name]) -> None:
        """These Services may need other endpoints."""
        self.queue.add(names)

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            await together(*(Job(f"{self.name} worker {number}", self._work()) for number in range(WORKERS)))
        finally:
            self.queue.close()

    async def _work(self) -> None:
        while True:
            name = await self.queue.take()
            began = time.monotonic()
            await self._sync(name)
            self.seconds += time.monotonic() - began
            await asyncio.sleep(0)

    async def _sync(self, name: Name) -> None:
        try:
            await self._maker.sync(name)
        except Conflict:
            self._syncs[self.name, "conflict"] += 1
            self.queue.failed(name)
        except Lost:
            self.queue.failed(name)  # the term ends: whoever holds the Lease next does it
        except ApiError as error:
            self._failed(name, "error", str(error), error.retry_after)
        except Exception as error:
            self._failed(name, "defect", f"{type(error).__name__}: {error}")
            log.debug("where it came from", exc_info=error)
        else:
            self._succeeded(name)

    def _succeeded(self, name: Name) -> None:
        self._syncs[self.name, "success"] += 1
        self.queue.done(name)
        if self._failing.clear(name):
            event(log, logging.INFO, "Service is in sync again", controller=self.name, service="/".join(name))

    def _failed(self, name: Name, result: str, reason: str, at_least: float = 0.0) -> None:
        self._syncs[self.name, result] += 1
        delay = self.queue.failed(name, at_least)
        if self._failing.note(name, reason):
            event(
                log, logging.ERROR if result == "defect" else logging.WARNING, "cannot sync Service, trying again",
                controller=self.name, service="/".join(name), reason=reason, seconds=f"{delay:.1f}",
            )  # fmt: skip
