"""Whom this replica does not let speak, or not as much: counted by reason, and told in a log that nobody can fill.

A refused call costs the replica about a millisecond, and its peer may make the next one at once. So an address has a
few refused at once; the further ones are kept for a while before they hear of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
import grpc.aio
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.identity.peer import Refusal
from deltaplane.logs import event
from deltaplane.shares import Rates, Shares

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

PERIOD = 60.0  # seconds between two lines of one address for one reason
KEYS = 256  # such pairs within a period; what comes beyond them is counted alone
REFUSALS, REFUSALS_AT_ONCE = 10.0, 20.0  # per second, of one address
LONGEST = 20.0  # seconds that a refused call is kept: less than an agent waits for its Welcome
HELD = 2048  # calls that are kept at once, of one address half of it at most; what comes beyond them ends at once
BLAMED = frozenset(
    {"UNAUTHENTICATED", "INVALID_ARGUMENT", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}
    | {"DEADLINE_EXCEEDED"}
)  # statuses that are the peer's doing


def host_of(peer: str) -> str:
    """Of an address as gRPC names it, without the port."""
    return peer.rpartition(":")[0] or peer


class Refused(Collector):
    """`counts` by reason; time is monotonic seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._now = now
        self._began = now()
        self._ends = Rates[str](REFUSALS, REFUSALS_AT_ONCE)
        self._held = Shares[str]()
        self._silent: Counter[tuple[str, str]] = Counter()  # told in this period: how many more there were

    def note(self, refusal: Refusal, peer: str, node: str = "") -> None:
        """`peer`: as gRPC names it, with the port. `node`: who it is, if that is known; else its address counts."""
        self.counts[refusal.reason] += 1
        self._turn()
        key = (refusal.reason, node or host_of(peer))
        if key in self._silent:
            self._silent[key] += 1
        elif len(self._silent) < KEYS:
            self._silent[key] = 0
            named = {"node": node} if node else {}
            event(log, logging.WARNING, "refused", peer=peer, status=refusal.status, reason=refusal.text, **named)

    async def end(self, refusal: Refusal, context: Context) -> NoReturn:
        """Notes it, and ends the call when its peer may hear of it."""
        peer = context.peer()
        self.note(refusal, peer)
        await self.hold(refusal.status, peer)
        await context.abort(grpc.StatusCode[refusal.status], refusal.text)
        raise AssertionError("the call has ended")

    async def hold(self, status: str, peer: str) -> None:
        """Returns when the refused call of this peer may end."""
        host = host_of(peer)
        wait = self._ends.owe(host, self._now(), LONGEST) if status in BLAMED else 0.0
        if wait and self._held.fits(host, HELD - len(self._held)):
            self._held.enter(host)
            try:
                await asyncio.sleep(wait)
            finally:
                self._held.leave(host)

    def _turn(self) -> None:
        if self._now() < self._began + PERIOD:
            return
        more = sum(self._silent.values())
        if more:
            event(log, logging.WARNING, "refused likewise", times=more, addresses=sum(map(bool, self._silent.values())))
        self._silent.clear()
        self._began = self._now()

    def collect(self) -> Iterator[Metric]:
        text = "Calls of peers that may not speak, or not as much, by reason."
        metric = CounterMetricFamily("deltaplane_peers_refused", text, labels=["reason"])
        for reason, number in sorted(self.counts.items()):
            metric.add_metric([reason], number)
        yield metric
