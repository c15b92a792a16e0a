"""The agent without its sockets: messages in, kernel commits and answers out. Called by the client, in one loop.

Owns the mirror, the session, the journal and the dataplane, and is the one place that joins them: what a message
touched is resolved for this node and committed before the message counts as applied.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.logs import event
from deltaplane.model import Kind, ObjectKey
from deltaplane.resolve import NodeView, resolve
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2
from nodeagent.errors import KernelUnavailable
from nodeagent.events import Changed, Event, Record, Report, Send
from nodeagent.hello import Mode, identity
from nodeagent.here import Here
from nodeagent.journal import Journal
from nodeagent.keeper import STATE_MAX_AGE, Keeper
from nodeagent.liveness import SILENCE_SECONDS
from nodeagent.mirror import Mirror, ServiceName, Touched
from nodeagent.program.dataplane import Bordering, Commit, Dataplane, Failed
from nodeagent.programming import triggers
from nodeagent.session import Session
from nodeagent.trouble import Trouble

if TYPE_CHECKING:
    from nodeagent.followers import Follower
    from nodeagent.metrics import Metrics

log = logging.getLogger(__name__)

REPAIR_PAUSE = 0.5  # seconds between two repairs

Times = tuple[int, int]  # perf_counter nanoseconds: the message's arrival, and the start of resolve


class Agent:
    """Implements `nodeagent.client.Conversation`. `complete`: this kernel has had a whole state since the start."""

    def __init__(
        self,
        here: Here,
        dataplane: Dataplane,
        journal: Journal | None = None,
        *,
        boot_id: str = "",
        mode: Mode | None = None,
        followers: Sequence[Follower] = (),
        metrics: Metrics | None = None,
        follow_cidrs: Callable[[tuple[str, ...]], None] | None = None,
        silence: float = SILENCE_SECONDS,
        state_max_age: float = STATE_MAX_AGE,
    ) -> None:
        self.complete = False
        self._dataplane = dataplane
        self._keeper = Keeper(journal, here.name, state_max_age)
        hello = identity(here.name, mode or Mode(dataplane.mode), boot_id)
        asked = None if metrics is None else metrics.resynced
        self._new_session: Callable[[Mirror], Session] = partial(Session, hello, asked=asked, silence=silence)
        self._begin_anew()
        self._here = here
        self._view = NodeView(here.name)
        self._untidy = False  # a whole state came in
        self._whole = True  # the kernel is to be compared with the whole state, not with a change
        self._trouble = Trouble()
        self._followers = followers
        self.drifted = False  # others changed what is ours in the kernel
        self._repair_at = 0.0  # not before: whoever fights over our tables shall not have all of this process
        self._metrics = metrics
        self._follow_cidrs = follow_cidrs  # takes the Node's pod CIDRs, where they tell local traffic (I5)
        self._cidrs: tuple[str, ...] = ()
        self._unresolved: dict[ObjectKey, str] = {}  # Services whose meaning cannot be told, and why
        self._answers: list[bytes] = []  # to what happened outside the stream; sent with the next tick

    def _begin_anew(self) -> None:
        """Knows nothing of the cluster; the next stream brings a snapshot."""
        self.mirror = Mirror()
        self._session = self._new_session(self.mirror)

    # ------------------------------------------------------------ life

    def recover(self, alone: Callable[[], bool] = lambda: True) -> None:
        """Takes in what the journal kept, to resume by revision.

        It reaches the kernel now only if that holds nothing of ours (after a reboot), nor of another mode or proxy
        (`alone`), and if it is not too old; otherwise the kernel may be newer, or the state is of a time that nobody
        remembers: it is compared once a replica has said what is true. Whatever is in the journal, this returns.
        """
        try:
            self._recover(alone)
        finally:
            self._keeper.recovered()

    def _recover(self, alone: Callable[[], bool]) -> None:
        try:
            changed = self._keeper.restore(self._session, time.monotonic())
        except Exception as error:  # noqa: BLE001 - an agent that ends here would end at every start
            self._spoilt(error)
            return
        if changed is not None and not self._dataplane.adopted and alone() and self._keeper.fresh():
            with suppress(Exception):  # told by `_spoilt`
                self._commit_whole(changed.rev, _now())

    def _spoilt(self, error: Exception) -> None:
        self._keeper.spoilt(error)
        self._begin_anew()
        self._unresolved.clear()

    def close(self) -> None:
        """Lets go of files and sockets; the rules stay."""
        self._keeper.close()
        self._dataplane.close()

    # ------------------------------------------------------------ the stream (client.Conversation)

    def connected(self, now: float) -> bytes:
        """The Hello."""
        return self._session.connected(now)

    def disconnected(self, now: float) -> None:
        """The kernel keeps what it has (S12)."""
        self._session.disconnected()
        gc.enable()
        if self._metrics is not None:
            self._metrics.connected(connected=False)

    def lost(self, now: float) -> str | None:
        """Why the stream should be given up, if it should."""
        return self._session.lost(now)

    def handled(self, now: float) -> None:
        """What was received last is dealt with."""
        self._session.handled(now)
        if self._metrics is not None:
            self._metrics.heard()
            self._metrics.connected(connected=self._session.welcomed)
            self._note()

    def excused(self, seconds: float, now: float) -> None:
        """This process did not run for so long until now."""
        self._session.excused(seconds, now)

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait and where to go."""
        return self._session.redirect()

    def received(self, data: bytes, now: float) -> Sequence[bytes]:
        """Takes one message and gives the answers; what it says is in the kernel then, or will be tried again.

        What it raises is a defect; the whole state is compared with the kernel on the next stream, since nobody knows
        how far this message came.
        """
        try:
            return self._received(data, now)
        except Exception:
            self._whole = True
            raise

    def _received(self, data: bytes, now: float) -> Sequence[bytes]:
        arrived = time.perf_counter_ns()
        answers: list[bytes] = []
        events = self._session.received(data, now)
        (gc.disable if self._session.collecting else gc.enable)()  # what a snapshot brings stays
        times = (arrived, time.perf_counter_ns())
        # A delta is written ahead, so that the journal never lacks what the kernel has; a snapshot, which costs a
        # sync, after.
        for item in sorted(events, key=lambda item: not (isinstance(item, Record) and not item.whole)):
            answers += self._handle(item, times)
        if self._whole and self._session.current:
            answers += self._commit_whole(self._session.rev, times)
        return answers

    def _handle(self, item: Event, times: Times) -> list[bytes]:
        if isinstance(item, Changed):
            return self._changed(item, times)
        if isinstance(item, Send):
            return [item.message]
        if isinstance(item, Report):
            event(log, logging.WARNING, "protocol", code=item.code, text=item.text)
        else:
            self._keeper.keep(self._session, item)
        return []

    def tick(self, now: float) -> Sequence[bytes]:
        """Acks that are due, and another try at what the kernel refused."""
        self._tidy()
        self._keeper.tend(self._session, now)
        answers, self._answers = [*self._answers, *self._session.tick(now)], []
        if self.complete and not self._here.due_in(now):
            answers += self._commit((), self._session.rev, _now(), self._here.forwarding(self.mirror))
        answers += self._repair(now)
        if now >= self._trouble.retry_at and self._unsettled():
            answers += self._retry(now)
        return answers

    def _tidy(self) -> None:
        """After a whole state, and after its Ack: that is long-lived, and later collections need not walk it."""
        if self._untidy:
            self._untidy = False
            gc.collect()
            gc.freeze()

    def pause(self, now: float) -> float:
        """Seconds until an Ack is due or the kernel is to be tried again; infinite if neither."""
        retry = self._trouble.retry_at - now if self._unsettled() else inf
        node = self._here.due_in(now) if self.complete else inf
        repair = self._repair_at - now if self.drifted and self.complete else inf
        return 0.0 if self._answers else max(0.0, min(retry, node, repair, self._session.pause(now)))

    def kernel_changed(self) -> None:
        """The dataplane's descriptor is readable: others may have changed what is ours; it is put right at once."""
        self.drifted = self._dataplane.drifted() or self.drifted
        self._answers += self._repair(time.monotonic())

    def machine_changed(self) -> None:
        """This machine has other addresses now."""
        if self.complete:
            self._answers += self._commit((), self._session.rev, _now(), self._here.forwarding(self.mirror))

    # ------------------------------------------------------------ to the kernel

    def _changed(self, changed: Changed, times: Times) -> list[bytes]:
        if self._metrics is not None:
            self._metrics.received(*changed.touched.changed, triggers(changed.causes, self.mirror))
        if changed.complete or self._whole:
            self._whole = True
            return []  # `received` compares the whole state once, after the last event
        touched = changed.touched
        names: Iterable[ServiceName] = touched.services
        mine = self._here.name in touched.nodes
        if mine and (view := self._here.view(self.mirror)) != self._view:
            self._view = view
            names = {**dict.fromkeys(touched.services), **self.mirror.services}  # those gone as well
        inside = self._heard(touched)
        node = self._here.forwarding(self.mirror) if mine or inside or touched.service_cidrs else None
        return self._commit(self._resolve(names), changed.rev, times, node)

    def _commit_whole(self, rev: int, times: Times) -> list[bytes]:
        """Compares the kernel with the whole state; only differences are written."""
        self._view = self._here.view(self.mirror)
        self._heard(None)
        gc.disable()
        try:
            answers = self._commit(
                self._resolve(self.mirror.services), rev, times, self._here.forwarding(self.mirror), complete=True
            )
        except Exception as error:
            if self._keeper.untried:
                self._spoilt(error)
            raise
        finally:
            gc.enable()
        self._untidy = True
        return answers

    def _heard(self, touched: Touched | None) -> bool:
        """Tells the backend of other Nodes' addresses; whether Nodes and pods have other addresses in ServiceCIDRs."""
        come, gone, inside = self._here.heard(self.mirror, touched)
        if (come or gone) and isinstance(self._dataplane, Bordering):
            self._dataplane.neighbours(come, gone)
        return inside

    def _resolve(self, services: Iterable[ServiceName]) -> list[ServiceForwarding]:
        """What the Services mean on this node; one that cannot be told is left as it is, and reported."""
        mirror, view, unresolved = self.mirror, self._view, self._unresolved
        found = []
        for name in services:
            key = ObjectKey(Kind.SERVICE, *name)
            try:
                found.append(resolve(key, mirror.services.get(name), mirror.slices_of(*name), view))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one Service, the others are served
                unresolved[key] = f"{type(error).__name__}: {error}"
            else:
                if unresolved:
                    unresolved.pop(key, None)
        return found

    def _commit(
        self,
        services: Sequence[ServiceForwarding],
        rev: int,
        times: Times,
        node: NodeForwarding | None,
        *,
        complete: bool = False,
    ) -> list[bytes]:
        resolved = time.perf_counter_ns()
        for follower in self._followers:
            follower.want(services, node, complete=complete)
        try:
            self._take_cidrs()
            done = self._dataplane.apply(services, node, complete=complete)
        except KernelUnavailable as error:
            self._refused(str(error))
            return []
        report = _report(times, resolved, done)
        for follower in self._followers:
            follower.committed(done, report.commit_ns / 1e9)
        return self._committed(done, rev, report, complete=complete)

    def _take_cidrs(self) -> None:
        if self._follow_cidrs is None:
            return
        cidrs = self._here.pod_cidrs(self.mirror)
        if cidrs and cidrs != self._cidrs:
            self._follow_cidrs(cidrs)
            self._cidrs = cidrs
            event(log, logging.INFO, "local traffic is told by the Node's pod CIDRs", cidrs=",".join(cidrs))

    def _committed(self, done: Commit, rev: int, report: pb.CommitReport, *, complete: bool) -> list[bytes]:
        if complete:
            self.complete = True
            self._whole = self._keeper.untried = False
            event(
                log, logging.INFO, "kernel has the whole state", rev=rev, services=len(self.mirror.services),
                elements=report.kernel_elements, milliseconds=(report.resolve_ns + report.commit_ns) // 1_000_000,
            )  # fmt: skip
        failures = (
            *done.failed,
            *(item for follower in self._followers for item in follower.failures()),
            *(Failed(key, "INVALID_OBJECT", reason) for key, reason in self.mirror.invalid.items()),
            *(Failed(key, "INTERNAL", reason) for key, reason in self._unresolved.items()),
        )
        now = time.monotonic()
        self._trouble.accepted(failures, now)
        retry_at = time.time_ns() + int(max(0.0, self._trouble.retry_at - now) * 1e9)
        failed = [self._failure(item, retry_at) for item in failures]
        ack = self._session.committed(rev, now, report=report, failed=failed, unix_nano=time.time_ns())
        self._note()
        return [] if ack is None else [ack]

    def _note(self) -> None:
        """Where the kernel is, for whoever reads metrics."""
        if self._metrics is not None:
            session = self._session
            behind = not session.following or session.applied_rev < session.head
            self._metrics.position(session.applied_rev, session.head, behind=behind)

    def _failure(self, failed: Failed, retry_at: int) -> pb.ObjectFailure:
        kind, namespace, name = failed.key
        key = objects_pb2.ObjectKey(kind=objects_pb2.Kind.ValueType(kind), namespace=namespace, name=name)
        code = pb.ErrorCode.Value(f"ERROR_CODE_{failed.code}")
        object_hash = self.mirror.hash_of(failed.key)
        return pb.ObjectFailure(key=key, object_hash=object_hash, code=code, text=failed.text, retry_unix_nano=retry_at)

    # ------------------------------------------------------------ trouble

    def _repair(self, now: float) -> list[bytes]:
        """Writes what others took away or changed, if it is time; nothing is asked of a replica."""
        if not (self.drifted and self.complete and now >= self._repair_at):
            return []
        self._repair_at = now + REPAIR_PAUSE
        times = _now()
        try:
            done = self._dataplane.repair()
        except KernelUnavailable as error:
            self._refused(str(error))
            return []
        self.drifted = False
        event(log, logging.WARNING, "others changed our tables: put right", elements=done.elements)
        if self._metrics is not None:
            self._metrics.repaired()
        return self._committed(done, self._session.rev, _report(times, times[1], done), complete=False)

    def _unsettled(self) -> bool:
        return bool(self._trouble.stuck or self._dataplane.pending())

    def _retry(self, now: float) -> list[bytes]:
        times = _now()
        self._trouble.retrying(now)
        if self._whole:
            return self._commit_whole(self._session.rev, times) if self._session.synced and self._trouble.stuck else []
        return self._commit((), self._session.rev, times, None)

    def _refused(self, reason: str) -> None:
        for follower in self._followers:
            follower.refused()
        self._trouble.refused(reason, time.monotonic())


def _now() -> Times:
    now = time.perf_counter_ns()
    return now, now


def _report(times: Times, resolved: int, done: Commit) -> pb.CommitReport:
    """`resolved` is when resolve ended; the session adds the revision and the Ack's delay."""
    arrived, started = times
    return pb.CommitReport(
        queued_ns=started - arrived,
        resolve_ns=resolved - started,
        commit_ns=time.perf_counter_ns() - resolved,
        kernel_messages=done.messages,
        kernel_elements=done.elements,
        kernel_bytes=done.size,
    )
