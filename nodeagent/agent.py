"""The agent without its sockets: messages in, kernel commits and answers out. Called by the client, in one loop.

Owns the mirror, the session, the journal and the dataplane, and is the one place that joins them: what a message
touched is resolved for this node and committed before the message counts as applied.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.frontends import Frontends, Slot
from deltaplane.logs import event
from deltaplane.resolve import NodeView
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.dataplane.api import Bordering, Dataplane
from nodeagent.dataplane.outcome import Commit
from nodeagent.dataplane.resolver import Resolver
from nodeagent.dataplane.retry import Trouble
from nodeagent.errors import KernelUnavailable
from nodeagent.garbage import Garbage
from nodeagent.metrics.programming_latency import triggers
from nodeagent.node.node_info import Here, PodCidrs
from nodeagent.stream.conversation import Conversing
from nodeagent.stream.events import Changed, Event, Record, Report, Send
from nodeagent.stream.handshake import Mode, identity
from nodeagent.stream.journal import Journal
from nodeagent.stream.keeper import STATE_MAX_AGE, Keeper
from nodeagent.stream.liveness import SILENCE_SECONDS
from nodeagent.stream.mirror import Mirror, Touched
from nodeagent.stream.reporting import Times, report_of, tell_whole, to_messages
from nodeagent.stream.session import Session
from nodeagent.stream.state_folder import taken

if TYPE_CHECKING:
    from nodeagent.dataplane.commit_hooks import Follower
    from nodeagent.metrics.registry import Metrics

log = logging.getLogger(__name__)

REPAIR_PAUSE = 0.5  # seconds between two repairs


class Agent(Conversing):
    """Implements `stream.client.Conversation`. `complete`: this kernel has had a whole state since the start."""

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
        release_file: Path | None = None,
        state_max_age: float = STATE_MAX_AGE,
    ) -> None:
        self.complete = False
        self._dataplane = dataplane
        self._keeper = Keeper(journal, here.name, state_max_age)
        hello = identity(here.name, mode or Mode(dataplane.mode), boot_id)
        asked = None if metrics is None else metrics.resynced
        self._release_file = release_file
        self._new_session: Callable[[Mirror], Session] = partial(
            Session, hello, asked=asked, silence=silence, unix_nano=time.time_ns
        )
        self._frontends = Frontends()
        self._begin_anew()
        self._here = here
        self._view = NodeView(here.name)
        self._garbage = Garbage()
        self._whole = True  # the kernel is to be compared with the whole state, not with a change
        self._trouble = Trouble()
        self._followers = followers
        self.drifted = False  # others changed what is ours in the kernel
        self._repair_at = 0.0  # not before: whoever fights over our tables shall not have all of this process
        self._metrics = metrics
        self._pod_cidrs = PodCidrs(follow_cidrs)
        self._answers: list[bytes] = []  # to what happened outside the stream; sent with the next tick

    def _begin_anew(self) -> None:
        """Knows nothing of the cluster; the next stream brings a snapshot."""
        self.mirror = Mirror()
        self._resolver = Resolver(self.mirror, self._frontends)
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
                self._commit_whole(changed.rev)

    def _spoilt(self, error: Exception) -> None:
        self._keeper.spoilt(error)
        self._begin_anew()

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
        self._garbage.pause(while_=False)
        if self._metrics is not None:
            self._metrics.connected(connected=False)

    def handled(self, now: float) -> None:
        """What was received last is dealt with."""
        self._session.handled(now)
        if self._metrics is not None:
            self._metrics.heard()
            self._metrics.connected(connected=self._session.welcomed)
            self._metrics.braked(self._session.brake.gone)
            self._note()

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
        self._garbage.pause(while_=self._session.collecting)
        times = (arrived, time.perf_counter_ns())
        # A delta is written ahead, so that the journal never lacks what the kernel has; a snapshot, which costs a
        # sync, after.
        for item in sorted(events, key=lambda item: not (isinstance(item, Record) and not item.whole)):
            answers += self._handle(item, times)
        if self._whole and self._session.current:
            answers += self._commit_whole(self._session.rev, times)
        return answers

    def _handle(self, item: Event, times: Times | None = None) -> list[bytes]:
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
        self._garbage.tidy()
        if self._session.brake.holds and taken(self._release_file, self._session.brake.since):
            self._answers += [each for item in self._session.release(now) for each in self._handle(item)]
        self._keeper.tend(self._session, now)
        answers, self._answers = [*self._answers, *self._session.tick(now)], []
        if self.complete and not self._here.due_in(now):
            answers += self._node_again()
        answers += self._repair(now)
        if now >= self._trouble.retry_at and self._unsettled():
            answers += self._retry(now)
        return answers

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
        """This machine has other addresses now, as with each pod; no cost where they do not matter."""
        if self.complete and self._here.follows_machine:
            self._answers += self._node_again()

    def reserve(self, what: str, slots: Iterable[Slot]) -> None:
        """No Service has these addresses and ports."""
        touched = [(key.namespace, key.name) for key in self._frontends.reserve(what, slots)]
        if touched and self.complete:
            self._answers += self._commit(self._resolver.resolve(touched, self._view), self._session.rev)

    # ------------------------------------------------------------ to the kernel

    def _node_again(self) -> list[bytes]:
        return self._commit((), self._session.rev, self._here.forwarding(self.mirror))

    def _changed(self, changed: Changed, times: Times | None) -> list[bytes]:
        if self._metrics is not None:
            self._metrics.received(*changed.touched.changed, triggers(changed.causes, self.mirror))
        if changed.complete or self._whole:
            self._whole = True
            return []  # `received` compares the whole state once, after the last event
        touched = changed.touched
        names = list(touched.services)
        mine = self._here.name in touched.nodes
        if mine and (view := self._here.view(self.mirror)) != self._view:
            self._view = view
            names = list(dict.fromkeys((*names, *self.mirror.services)))  # those gone as well
        inside = self._heard(touched)
        node = self._here.forwarding(self.mirror) if mine or inside or touched.service_cidrs else None
        return self._commit(self._resolver.resolve(names, self._view), changed.rev, node, times)

    def _commit_whole(self, rev: int, times: Times | None = None) -> list[bytes]:
        """Compares the kernel with the whole state; only differences are written."""
        self._view = self._here.view(self.mirror)
        self._heard(None)
        self._garbage.pause(while_=True)
        try:
            answers = self._commit(
                self._resolver.resolve_all(self._view), rev, self._here.forwarding(self.mirror), times, complete=True
            )
        except Exception as error:
            if self._keeper.untried:
                self._spoilt(error)
            raise
        finally:
            self._garbage.pause(while_=False)
        self._garbage.whole()
        return answers

    def _heard(self, touched: Touched | None) -> bool:
        """Tells the backend of other Nodes' addresses; whether Nodes and pods have other addresses in ServiceCIDRs."""
        come, gone, inside = self._here.heard(self.mirror, touched)
        if (come or gone) and isinstance(self._dataplane, Bordering):
            self._dataplane.neighbours(come, gone)
        return inside

    def _commit(
        self,
        services: Sequence[ServiceForwarding],
        rev: int,
        node: NodeForwarding | None = None,
        times: Times | None = None,
        *,
        complete: bool = False,
    ) -> list[bytes]:
        """`times`: of the message that led to this, if one did."""
        resolved = time.perf_counter_ns()
        for follower in self._followers:
            follower.want(services, node, complete=complete)
        try:
            self._pod_cidrs.take(self._here.pod_cidrs(self.mirror))
            done = self._dataplane.apply(services, node, complete=complete)
        except KernelUnavailable as error:
            self._refused(str(error))
            return []
        report = report_of(times or (resolved, resolved), resolved, time.perf_counter_ns(), done)
        return self._committed(done, rev, report, complete=complete)

    def _committed(self, done: Commit, rev: int, report: pb.CommitReport, *, complete: bool) -> list[bytes]:
        """The kernel took something, in whatever way: the one place from which everybody hears of it."""
        for follower in self._followers:
            follower.committed(done, report.commit_ns / 1e9)
        if complete:
            self.complete = True
            self._whole = self._keeper.untried = False
            tell_whole(rev, len(self.mirror.services), report)
        theirs = (item for follower in self._followers for item in follower.failures())
        failures = (*done.failed, *theirs, *self._resolver.failures(), *self._here.failures())
        now = time.monotonic()
        self._trouble.accepted(failures, now)
        failed = to_messages(failures, self.mirror.hash_of, time.time_ns(), self._trouble.retry_at - now)
        ack = self._session.committed(rev, now, report=report, failed=failed, unix_nano=time.time_ns())
        self._note()
        return [] if ack is None else [ack]

    def _note(self) -> None:
        """Where the kernel is, for whoever reads metrics."""
        if self._metrics is not None:
            self._metrics.position(self._session.applied_rev, self._session.head, behind=self._session.behind)

    # ------------------------------------------------------------ trouble

    def _repair(self, now: float) -> list[bytes]:
        """Writes what others took away or changed, if it is time; nothing is asked of a replica."""
        if not (self.drifted and self.complete and now >= self._repair_at):
            return []
        self._repair_at = now + REPAIR_PAUSE
        began = time.perf_counter_ns()
        try:
            done = self._dataplane.repair()
        except KernelUnavailable as error:
            self._refused(str(error))
            return []
        self.drifted = False
        self._trouble.repaired(done.elements, now)
        if self._metrics is not None:
            self._metrics.repaired()
        return self._committed(
            done, self._session.rev, report_of((began, began), began, time.perf_counter_ns(), done), complete=False
        )

    def _unsettled(self) -> bool:
        return bool(self._trouble.stuck) or self._dataplane.pending()

    def _retry(self, now: float) -> list[bytes]:
        self._trouble.retrying(now)
        if not self._whole:
            return self._commit((), self._session.rev)
        return self._commit_whole(self._session.rev) if self._session.synced and self._trouble.stuck else []

    def _refused(self, reason: str) -> None:
        for follower in self._followers:
            follower.refused()
        self._trouble.refused(reason, time.monotonic())
