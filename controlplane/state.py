"""The state of this replica: takes facts from a source, gives them revisions, and wakes whoever streams them.

Owned by one event loop. Sources see it as a `facts.Sink`; the server and inspection read `store`, `log` and `ready`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from controlplane.facts import Fact
from controlplane.log import Log
from controlplane.store import Change, Store
from controlplane.trace import Tracing
from deltaplane.model import Kind, ObjectKey

WATCHED = frozenset({Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE, Kind.SERVICE_CIDR})


class State:
    """Facts in, batches out. Nothing is streamed before every watched kind is complete (S1)."""

    def __init__(self, log: Log, tracing: Tracing) -> None:
        self.store = Store()
        self.log = log
        self._tracing = tracing
        self._missing = set(WATCHED)
        self._waiters = 0
        self._wakers: set[Callable[[], None]] = set()
        self.whole = asyncio.Event()  # set once every watched kind is complete

    @property
    def ready(self) -> bool:
        """Whether every watched kind is complete."""
        return not self._missing

    @property
    def missing(self) -> frozenset[Kind]:
        """The kinds that are not complete yet."""
        return frozenset(self._missing)

    def has_node(self, name: str) -> bool:
        """Whether the cluster has a Node object of this name."""
        return self.store.get(ObjectKey(Kind.NODE, "", name)) is not None

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Calls `wake` meanwhile whenever the log moves on."""
        self._wakers.add(wake)
        try:
            yield
        finally:
            self._wakers.discard(wake)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """While somebody waits for Acks, changes ask for theirs at once instead of at the Acks' own pace."""
        self._waiters += 1
        try:
            yield
        finally:
            self._waiters -= 1

    def update(self, facts: Iterable[Fact]) -> None:
        """Takes changes as they happen (facts.Sink)."""
        self._append(self.store.update(facts, time.time_ns()))

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        """Takes a complete list of one kind (facts.Sink)."""
        self._append(self.store.replace(kind, facts, resource_version, time.time_ns()))

    def synced(self, kind: Kind) -> None:
        """The kind is complete (facts.Sink). With the last one the first revision begins."""
        if kind not in self._missing:
            return
        self._missing.discard(kind)
        if self.ready:
            self.log.begin()
            self.whole.set()

    def _append(self, changes: list[Change]) -> None:
        if not changes or not self.ready:
            return  # the first complete state is given as a snapshot, not as a change
        sampled = [self._sample(change) for change in changes]
        batches = self.log.append(
            sampled,
            digest=self.store.digest.value,
            versions=self.store.versions,
            now=time.monotonic(),
            unix_nano=time.time_ns(),
            awaited=self._waiters > 0,
        )
        for batch in batches:
            self._tracing.batched(batch.causes, batch.emitted_unix_nano)
        for wake in self._wakers:
            wake()

    def _sample(self, change: Change) -> Change:
        origin = change.origin
        traceparent = self._tracing.sample(str(change.key), origin.event_unix_nano, origin.ingested_unix_nano)
        return replace(change, origin=replace(origin, traceparent=traceparent)) if traceparent else change
