"""The state of this replica: takes facts from a source, gives them revisions, and wakes the streams.

Owned by one event loop. Sources see it as a `facts.Sink`; the server and inspection read `store`, `log` and `ready`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from msgspec.structs import replace

from controlplane.agent_nodes import AgentNodes
from controlplane.batch import Batch
from controlplane.contested import Contested
from controlplane.facts import Fact, Remembering, Reporter
from controlplane.lineage import Lineage
from controlplane.log import Log
from controlplane.notices import Notice, half_open
from controlplane.store import Change, Store
from controlplane.trace import Tracing
from controlplane.wakers import Wakers
from deltaplane import moments
from deltaplane.frontends import Frontends
from deltaplane.logs import event
from deltaplane.model import Kind, ObjectKey, Service
from deltaplane.once import Once

log = logging.getLogger(__name__)

WATCHED = frozenset({Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE, Kind.SERVICE_CIDR})


class Cluster:
    """Facts in, batches out. Nothing is streamed before every watched kind is complete (S1)."""

    def __init__(
        self,
        history: Log,
        tracing: Tracing,
        reporter: Reporter | None = None,
        tell: Callable[[Notice], None] | None = None,
        agent_nodes: AgentNodes | None = None,
    ) -> None:
        self.store = Store(self._refused)
        self.log = history
        self.lineage = Lineage()
        self.agent_nodes = agent_nodes or AgentNodes()
        self.cluster_id = ""  # which cluster the objects are of; empty: not known
        self.renewals = 0  # how often the history had to begin anew, because it did not lead to the state
        self._tracing = tracing
        self._reporter = reporter
        self._tell = tell
        self._contested = Contested()
        self._unusable = Once[ObjectKey]()
        self._missing = set(WATCHED)
        self._waiters = 0
        self._wakers = Wakers()
        self.whole = asyncio.Event()  # set once every watched kind is complete

    @property
    def ready(self) -> bool:
        """Whether every watched kind is complete."""
        return not self._missing

    @property
    def missing(self) -> frozenset[Kind]:
        """The kinds that are not complete yet."""
        return frozenset(self._missing)

    @property
    def frontends(self) -> Frontends:
        """Whose each address and port is."""
        return self._contested.frontends

    def problem(self, key: ObjectKey) -> str:
        """Why the object's newest form is not used; empty: it is, or nothing is known of it."""
        reporter: object = self._reporter
        told = reporter.reason(str(key)) if isinstance(reporter, Remembering) else ""
        return self._unusable.text(key) or told

    def problems(self) -> Iterator[tuple[str, str]]:
        """Every object, or file, that cannot be used as it is, and why."""
        reporter: object = self._reporter
        if isinstance(reporter, Remembering):
            yield from reporter.known()

    @property
    def nodes(self) -> int:
        """How many Node objects the cluster has."""
        return self.store.count(Kind.NODE)

    def has_node(self, name: str) -> bool:
        """Whether the cluster has a Node object of this name."""
        return self.store.get(ObjectKey(Kind.NODE, "", name)) is not None

    def identify(self, cluster_id: str) -> None:
        """Sets which cluster the objects belong to. Agents refuse to change to another cluster."""
        self.cluster_id = cluster_id
        event(log, logging.INFO, "cluster identified", cluster=cluster_id)

    def waking(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Calls `wake` for each new revision while the context is open."""
        return self._wakers.waking(wake)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """While the context is open, changes request their Acks at once (`ack_now`)."""
        self._waiters += 1
        try:
            yield
        finally:
            self._waiters -= 1

    def update(self, facts: Iterable[Fact]) -> None:
        """Takes changes as they happen (facts.Sink)."""
        self._append(self.store.update(self.agent_nodes.noted(facts), moments.unix_nano()))

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        """Takes a complete list of one kind (facts.Sink)."""
        if kind is Kind.NODE:
            self.agent_nodes.forget()
        noted = self.agent_nodes.noted(facts)
        self._append(self.store.replace(kind, noted, resource_version, moments.unix_nano()))

    def synced(self, kind: Kind) -> None:
        """The kind is complete (facts.Sink). The last kind starts the first revision."""
        if kind not in self._missing:
            return
        self._missing.discard(kind)
        if self.ready:
            self.log.begin(self.store.digest.value)
            self.whole.set()
            self._notice(())

    def heal(self) -> bool:
        """Begins the history anew if its head differs from the state; returns whether it did. Cheap."""
        if not self.ready or self.log.digest == self.store.digest.value:
            return False
        self._renew("the history's head is not the state")
        return True

    def _renew(self, reason: str) -> None:
        """Ends every stream; the agents reconnect with their digests and get what they lack."""
        self.renewals += 1
        self.log.renew(self.store.digest.value)
        self.lineage.renew()
        event(log, logging.ERROR, "history begun anew", reason=reason, epoch=self.log.epoch.hex())
        self._wakers.wake()

    def _refused(self, key: ObjectKey, reason: str) -> None:
        if self._unusable.note(key, reason) and self._reporter is not None:
            self._reporter.invalid(f"{key} (to be sent)", f"{reason}; it stays as it was")

    def _mended(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if self._unusable.clear(change.key) and self._reporter is not None:
                self._reporter.valid(f"{change.key} (to be sent)")

    def _append(self, changes: list[Change]) -> None:
        if self._unusable:
            self._mended(changes)
        self._notice(changes)
        if not changes or not self.ready:
            return  # the first complete state is given as a snapshot, not as a change
        try:
            batches = self._record(changes)
        except Exception as error:  # noqa: BLE001 - the store has moved: what it has now must reach the agents all the same
            self._renew(f"{type(error).__name__}: {error}")
            return
        self.lineage.take(batches)
        self._wakers.wake()
        for batch in batches:
            with self._untraced():
                self._tracing.batched(batch.causes, batch.emitted_unix_nano)

    def _notice(self, changes: Iterable[Change]) -> None:
        """Tells the owners of Services. An error here costs Events, never a change."""
        try:
            for notice in self._noticed(changes):
                if self._tell is not None:
                    self._tell(notice)
        except Exception as error:  # noqa: BLE001 - see above
            event(log, logging.ERROR, "cannot tell of Services", error=f"{type(error).__name__}: {error}")

    def _noticed(self, changes: Iterable[Change]) -> Iterator[Notice]:
        for change in changes:
            if change.key.kind != Kind.SERVICE:
                continue
            service = change.object if isinstance(change.object, Service) else None
            self._contested.take(change.key, service)
            if service is not None and (notice := half_open(service)) is not None:
                yield notice
        if self.ready:  # before that, a Service with precedence may still be missing
            yield from self._contested.notices()

    def _record(self, changes: list[Change]) -> list[Batch]:
        return self.log.append(
            [self._sample(change) for change in changes],
            digest=self.store.digest.value,
            versions=self.store.versions,
            now=time.monotonic(),
            unix_nano=moments.unix_nano(),
            awaited=self._waiters > 0,
        )

    @contextmanager
    def _untraced(self) -> Iterator[None]:
        """Contains errors of the tracer: they cost spans, never a change."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            event(log, logging.ERROR, "tracing failed", error=f"{type(error).__name__}: {error}")

    def _sample(self, change: Change) -> Change:
        origin = change.origin
        traceparent = ""
        with self._untraced():
            traceparent = self._tracing.sample(str(change.key), origin.event_unix_nano, origin.ingested_unix_nano)
        return replace(change, origin=replace(origin, traceparent=traceparent)) if traceparent else change
