"""The clean-up of tracked flows after a commit: it notes what changed, and cleans the table in the background.

Called by the agent: `want` before each commit and `commit` after it, whose cost is a look at the protocols of the
Services concerned; `run` is a task of its own. The table is walked on another thread, since the kernel's time for it
grows with the table. A failure there is logged and tried again, and does not affect the commit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_address

from msgspec import Struct

from deltaplane.backoff import Backoff, Retries
from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.logs import event
from deltaplane.model import WIDTHS, ObjectKey, family_of
from deltaplane.once import Once
from nodeagent.conntrack.attempts import Attempt, Attempts
from nodeagent.conntrack.intent import CleanUp, Intents
from nodeagent.conntrack.places import Place
from nodeagent.conntrack.query import Flow, Table, queries
from nodeagent.errors import KernelUnavailable

BATCH = 1024  # stale flows held before they are deleted
ASKED = 60.0  # seconds in which the loop answers the thread that sweeps
Items = list[CleanUp | Attempt]
Renew = Callable[[Sequence[CleanUp | Attempt]], Items]
BACKOFF = Backoff(1.0, 60.0)  # seconds between tries at what failed

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
        self._retries = Retries(BACKOFF)
        self._pause = 0.0
        self._said = Once[str]()

    def adopt(self, places: Iterable[Place]) -> None:
        """UDP frontends that the kernel had before the start (`intent.place_of`); once, before the first `want`."""
        self._intents.adopt(places)

    def want(
        self,
        services: Sequence[ServiceForwarding],
        node: NodeForwarding | None = None,
        *,
        complete: bool = False,
        names: Collection[ObjectKey] | None = None,
    ) -> None:
        """Takes the arguments of `Dataplane.apply`, before that is called: what it may raise loses nothing.

        `names`: with `complete`, all Services there are, where portions with some of them came before.
        """
        addresses = None if node is None else self._node_ports(node)
        self._intents.want(services, addresses, complete=complete, names=names)
        self._attempts.want(services, addresses, complete=complete, names=names)

    def _node_ports(self, node: NodeForwarding) -> Collection[bytes]:
        """The addresses node ports answer on, by name: a flow to another machine's is none of ours (J4)."""
        if not node.match_all_families:
            return node.node_port_addresses
        widths = {WIDTHS[family] for family in node.match_all_families}
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
            renewed = partial(_on_loop, asyncio.get_running_loop(), self._renewed)
            self._settle(items, await asyncio.to_thread(sweep, self._table, items, renewed))

    def _take(self) -> list[CleanUp | Attempt]:
        return [*self._intents.take(), *self._attempts.take()]

    def _renewed(self, items: Sequence[CleanUp | Attempt]) -> list[CleanUp | Attempt]:
        """What these take now: more may be wanted, and be in the kernel, than when they were taken."""
        attempts = [item for item in items if isinstance(item, Attempt)]
        return [*self._intents.renewed(item for item in items if isinstance(item, CleanUp)), *attempts]

    def clean(self) -> None:
        """All that is due, on the calling thread, for those without an event loop; what fails is due again."""
        while items := self._take():
            self._settle(items, sweep(self._table, items, self._renewed))
            if self._pause:
                return

    def _settle(self, items: Iterable[CleanUp | Attempt], results: Iterable[Swept]) -> None:
        errors = {result.family: result.error for result in results if result.error}
        for result in results:
            self._report(result)
        self._pause = self._retries.failed() if errors else 0.0
        if errors:
            left = [item for item in items if family_of(item.place.address) in errors]
            self._intents.again(item for item in left if isinstance(item, CleanUp))
            self._attempts.again(item for item in left if isinstance(item, Attempt))
            self._due.set()
        else:
            self._retries.succeeded()
            if self._said.clear("sweep"):
                event(log, logging.INFO, "stale flows are deleted again")
        if self._attempts.due:  # a round takes some
            self._due.set()

    def _report(self, result: Swept) -> None:
        self._swept(result)
        if result.error and self._said.note("sweep", result.error):
            event(log, logging.ERROR, "stale flows remain; retrying", reason=result.error)
        elif result.deleted:
            event(log, logging.INFO, "stale flows deleted", family=result.family, deleted=result.deleted)


def _on_loop(loop: asyncio.AbstractEventLoop, ask: Renew, items: Sequence[CleanUp | Attempt]) -> Items:
    """Asks on the loop's thread, for the thread that sweeps."""

    async def answer() -> Items:
        return ask(items)

    return asyncio.run_coroutine_threadsafe(answer(), loop).result(ASKED)


def _same(items: Sequence[CleanUp | Attempt]) -> Items:
    return list(items)


def sweep(table: Table, items: Sequence[CleanUp | Attempt], renewed: Renew = _same) -> list[Swept]:
    """Deletes what these clean-ups take; one result per family concerned. Never raises.

    `renewed` is asked for each batch, after its flows were found: what is wanted by then has its flows kept.
    """
    families = sorted({family_of(item.place.address) for item in items})
    by_family = {each: [item for item in items if family_of(item.place.address) == each] for each in families}
    return [_sweep(table, family, taken, renewed) for family, taken in by_family.items()]


def _sweep(table: Table, family: int, items: Sequence[CleanUp | Attempt], renewed: Renew) -> Swept:
    began, count, error = time.perf_counter(), _Count(), ""
    try:
        places = _by_place(items)
        for batch in _batches(_stale(table, items, places, count)):
            concerned = [item for place in {flow.place for flow in batch} for item in places[place]]
            now = _by_place(renewed(concerned))
            count.deleted += table.delete([flow for flow in batch if _taken(now, flow)])
    except KernelUnavailable as failure:
        error = str(failure)
    except Exception as failure:
        log.exception("conntrack")
        error = f"conntrack: {failure!r}: a defect, please report it; it is tried again later"
    return Swept(family, len(items), count.seen, count.deleted, time.perf_counter() - began, error)


def _by_place(items: Iterable[CleanUp | Attempt]) -> dict[Place, Items]:
    places: dict[Place, Items] = {}
    for item in items:
        places.setdefault(item.place, []).append(item)
    return places


def _taken(places: Mapping[Place, Items], flow: Flow) -> bool:
    return any(item.takes(flow) for item in places.get(flow.place, ()))


class _Count:
    seen = 0
    deleted = 0


def _stale(
    table: Table, items: Sequence[CleanUp | Attempt], places: Mapping[Place, Items], count: _Count
) -> Iterator[Flow]:
    for query in queries(items):
        for flow in table.flows(query):
            count.seen += 1
            if _taken(places, flow):
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
