"""The clean-up after a commit: notes what changed, and has the table cleaned in the background.

Called by the agent: `want` before each commit and `commit` after it, which cost a look at the protocols of the Services
concerned; `run` is a task of its own. The table is walked on another thread, because the kernel's share of it grows
with the table. Whatever goes wrong there is reported and tried again, and never reaches the commit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from ipaddress import ip_address

from msgspec import Struct

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.logs import event
from deltaplane.model import ObjectKey
from nodeagent.conntrack.attempts import Attempt, Attempts
from nodeagent.conntrack.intent import CleanUp, Intents, Place
from nodeagent.conntrack.query import Flow, Table, family_of, queries
from nodeagent.errors import KernelUnavailable

BATCH = 1024  # stale flows held before they are deleted
RETRY_FIRST = 1.0  # seconds between tries at what failed; doubles up to RETRY_LAST
RETRY_LAST = 60.0

log = logging.getLogger(__name__)


class Swept(Struct, frozen=True):
    """What one sweep of one family did. `error` is one line for the operator, empty where all is clean."""

    family: int  # 4, 6
    places: int
    seen: int  # flows the kernel handed out
    deleted: int
    seconds: float
    error: str = ""


class Cleaner:
    """Keeps tracked UDP flows with endpoints that serve, for clients that the source ranges have; frees early attempts.

    `swept` is told of each sweep, on the agent's thread. `machine` gives this machine's own addresses, for families
    whose node ports answer on all of them.
    """

    def __init__(
        self,
        table: Table,
        swept: Callable[[Swept], None] = lambda _: None,
        machine: Callable[[], Collection[bytes]] = frozenset,
    ) -> None:
        self._table = table
        self._swept = swept
        self._machine = machine
        self._intents = Intents()
        self._attempts = Attempts()
        self._due = asyncio.Event()
        self._pause = 0.0
        self._error = ""

    def adopt(self, places: Iterable[Place]) -> None:
        """UDP frontends that the kernel had before the start (`intent.place_of`); once, before the first `want`."""
        self._intents.adopt(places)

    def want(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> None:
        """Takes the arguments of `Dataplane.apply`, before that is called: what it may raise loses nothing."""
        addresses = None if node is None else self._node_ports(node)
        self._intents.want(services, addresses, complete=complete)
        self._attempts.want(services, addresses, complete=complete)

    def _node_ports(self, node: NodeForwarding) -> Collection[bytes]:
        """The addresses node ports answer on, by name: a flow to another machine's is none of ours (J4)."""
        if not node.match_all_families:
            return node.node_port_addresses
        widths = {4 if family == 4 else 16 for family in node.match_all_families}
        own = (each for each in self._machine() if len(each) in widths and not ip_address(each).is_loopback)
        return {*node.node_port_addresses, *own}

    def commit(self, failed: Container[ObjectKey] = ()) -> None:
        """The kernel has all that was wanted, except of `failed`, which waits for its own commit."""
        if self._intents.commit(failed) | self._attempts.commit(failed):
            self._due.set()

    async def run(self) -> None:
        """Cleans whenever something is due; ends by cancellation."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self._round()
            if self._pause:
                await asyncio.sleep(self._pause)

    async def _round(self) -> None:
        items = self._take()
        if items:
            self._settle(items, await asyncio.to_thread(sweep, self._table, items))

    def _take(self) -> list[CleanUp | Attempt]:
        return [*self._intents.take(), *self._attempts.take()]

    def clean(self) -> None:
        """All that is due, on the calling thread, for those without an event loop; what fails is due again."""
        while items := self._take():
            self._settle(items, sweep(self._table, items))
            if self._pause:
                return

    def _settle(self, items: Iterable[CleanUp | Attempt], results: Iterable[Swept]) -> None:
        errors = {result.family: result.error for result in results if result.error}
        for result in results:
            self._report(result)
        self._pause = min(RETRY_LAST, self._pause * 2 or RETRY_FIRST) if errors else 0.0
        if errors:
            left = [item for item in items if family_of(item) in errors]
            self._intents.again(item for item in left if isinstance(item, CleanUp))
            self._attempts.again(item for item in left if isinstance(item, Attempt))
            self._due.set()
        elif self._error:
            event(log, logging.INFO, "stale flows are deleted again")
            self._error = ""
        if self._attempts.due:  # a round takes some
            self._due.set()

    def _report(self, result: Swept) -> None:
        self._swept(result)
        if result.error and result.error != self._error:
            event(log, logging.ERROR, "stale flows remain; retrying", reason=result.error)
            self._error = result.error
        elif result.deleted:
            event(log, logging.INFO, "stale flows deleted", family=result.family, deleted=result.deleted)


def sweep(table: Table, items: Sequence[CleanUp | Attempt]) -> list[Swept]:
    """Deletes what these clean-ups take; one result per family concerned. Never raises."""
    families = sorted({family_of(item) for item in items})
    return [_sweep(table, family, [item for item in items if family_of(item) == family]) for family in families]


def _sweep(table: Table, family: int, items: Sequence[CleanUp | Attempt]) -> Swept:
    began, count, error = time.perf_counter(), _Count(), ""
    try:
        for batch in _batches(_stale(table, items, count)):
            count.deleted += table.delete(batch)
    except KernelUnavailable as failure:
        error = str(failure)
    except Exception as failure:
        log.exception("conntrack")
        error = f"conntrack: {failure!r}: a defect, please report it; it is tried again later"
    return Swept(family, len(items), count.seen, count.deleted, time.perf_counter() - began, error)


class _Count:
    seen = 0
    deleted = 0


def _stale(table: Table, items: Sequence[CleanUp | Attempt], count: _Count) -> Iterator[Flow]:
    places: dict[Place, list[CleanUp | Attempt]] = {}
    for item in items:
        places.setdefault(item.place, []).append(item)
    for query in queries(items):
        for flow in table.flows(query):
            count.seen += 1
            if any(item.takes(flow) for item in places.get(flow.place, ())):
                yield flow


def _batches(flows: Iterator[Flow]) -> Iterator[list[Flow]]:
    batch: list[Flow] = []
    for flow in flows:
        batch.append(flow)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
