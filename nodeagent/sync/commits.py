"""Commits and the Acks that follow them: what a message, the kernel, the machine or the time asks for.

Owned by the agent. The programmer writes; the session knows when to acknowledge. Answers are serialised WatchRequests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deltaplane import moments
from deltaplane.frontends import Slot
from nodeagent.metrics.programming_latency import triggers
from nodeagent.stream.events import Changed
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.session import Session
from nodeagent.sync.garbage import Garbage
from nodeagent.sync.programmer import Committed, Programmer
from nodeagent.sync.reporting import Times, tell_whole

if TYPE_CHECKING:
    from nodeagent.metrics.registry import Metrics


class Commits:
    """`session` fills the programmer's mirror: both are replaced together."""

    def __init__(
        self, programmer: Programmer, new_session: Callable[[Mirror], Session], metrics: Metrics | None
    ) -> None:
        self.programmer = programmer
        self.session = new_session(programmer.mirror)
        self.garbage = Garbage()
        self._new_session = new_session
        self._metrics = metrics
        self._answers: list[bytes] = []  # for the next tick: to what happened outside the stream

    def begin_anew(self) -> None:
        """Nothing is known of the cluster: the next stream brings a snapshot."""
        self.programmer.begin_anew()
        self.session = self._new_session(self.programmer.mirror)

    # ------------------------------------------------------------ after a message

    def change(self, changed: Changed, times: Times) -> list[bytes]:
        """Commits what a message changed. A whole state waits for `compare`, after the message's last event."""
        if self._metrics is not None:
            self._metrics.received(*changed.touched.changed, triggers(changed.causes, self.session.mirror))
        if changed.complete:
            self.programmer.doubt()
        if not self.programmer.in_step:
            return []
        done = self.programmer.change(changed.touched, times)
        if done is not None and self._metrics is not None:
            self._metrics.delivered(done.report, changed.causes, moments.unix_nano())
        return self._ack(done)

    def compare(self, times: Times | None = None) -> list[bytes]:
        """Compares the kernel with the whole state; raises what a defect raises."""
        self.garbage.pause(while_=True)
        try:
            done = self.programmer.compare(times)
        finally:
            self.garbage.pause(while_=False)
        self.garbage.whole()
        if done is not None:
            tell_whole(self.session.rev, len(self.session.mirror.services), done.report)
        return self._ack(done)

    # ------------------------------------------------------------ when it is due

    def pause(self, now: float) -> float:
        """Seconds until `tick` has something to do; may be infinite."""
        return 0.0 if self._answers else min(self.programmer.pause(now), self.session.pause(now))

    def tick(self, now: float) -> list[bytes]:
        """Acks that are due, repairs, and another try at what the kernel refused."""
        programmer = self.programmer
        answers, self._answers = [*self._answers, *self.session.tick(now)], []
        if programmer.node_due(now) <= 0:
            answers += self._ack(programmer.node_changed())
        answers += self._repair(now)
        if programmer.retry_due(now) <= 0:
            answers += self._retry(now)
        return answers

    def _repair(self, now: float) -> list[bytes]:
        if self.programmer.repair_due(now) > 0:
            return []
        done = self.programmer.repair(now)
        if done is not None and self._metrics is not None:
            self._metrics.repaired()
        return self._ack(done)

    def _retry(self, now: float) -> list[bytes]:
        answers = self._ack(self.programmer.retry(now))
        whole = not self.programmer.in_step and self.session.synced and self.programmer.retries.stuck
        return self.compare() if whole else answers

    # ------------------------------------------------------------ what happens outside the stream

    def later(self, answers: Iterable[bytes]) -> None:
        """These go out with the next tick."""
        self._answers += answers

    def kernel_changed(self) -> None:
        """The dataplane's descriptor is readable: what others changed is repaired at once."""
        self.programmer.kernel_changed()
        self.later(self._repair(time.monotonic()))

    def machine_changed(self) -> None:
        """This machine has other addresses now."""
        self.later(self._ack(self.programmer.addresses_changed()))

    def reserve(self, what: str, slots: Iterable[Slot]) -> None:
        """No Service gets these addresses and ports."""
        self.later(self._ack(self.programmer.reserve(what, slots)))

    # ------------------------------------------------------------ after a commit

    def _ack(self, done: Committed | None) -> list[bytes]:
        """The Ack of a commit, if one is due at once; where the kernel refuses everything, that it does."""
        session = self.session
        if done is None:
            stuck = self.programmer.retries.stuck
            return session.pending(stuck) if stuck else []
        ack = session.applied(
            session.rev, time.monotonic(), report=done.report, failed=done.failed, unix_nano=moments.unix_nano()
        )
        self.note()
        return [] if ack is None else [ack]

    def note(self) -> None:
        """Tells metrics which revision the kernel has."""
        if self._metrics is not None:
            self._metrics.revisions(self.session.applied_rev, self.session.head, behind=self.session.behind)
