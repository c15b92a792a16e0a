"""The agent without its sockets: messages in, kernel commits and answers out. One call at a time (`stream.beside`).

Joins the session, the journal and the commits: what a message touched is committed before the message counts as
applied.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deltaplane import moments
from deltaplane.logs import event
from nodeagent.dataplane.api import Dataplane
from nodeagent.inspection.facts import Facts
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.acks import pending_of
from nodeagent.stream.events import Changed, Event, Record, Report, Send, portions, together
from nodeagent.stream.handshake import Mode, identity
from nodeagent.stream.journal import Journal
from nodeagent.stream.keeper import STATE_MAX_AGE, Keeper
from nodeagent.stream.liveness import SILENCE_SECONDS
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.session import Session
from nodeagent.stream.state_folder import taken
from nodeagent.sync.commits import Commits
from nodeagent.sync.programmer import GATHER, Programmer
from nodeagent.sync.reporting import Times
from nodeagent.sync.weight import heavy

if TYPE_CHECKING:
    from nodeagent.dataplane.commit_hooks import CommitHook
    from nodeagent.metrics.registry import Metrics

log = logging.getLogger(__name__)


class Agent:
    """Implements `stream.client.Conversation`. `release_file`: an operator makes it to release the safety brake."""

    def __init__(
        self,
        node: NodeInfo,
        dataplane: Dataplane,
        journal: Journal | None = None,
        *,
        boot_id: str = "",
        mode: Mode | None = None,
        hooks: Sequence[CommitHook] = (),
        metrics: Metrics | None = None,
        follow_cidrs: Callable[[tuple[str, ...]], None] | None = None,
        silence: float = SILENCE_SECONDS,
        release_file: Path | None = None,
        state_max_age: float = STATE_MAX_AGE,
        gather: float = GATHER,
    ) -> None:
        hello = identity(node.name, mode or Mode(dataplane.mode), boot_id)
        asked = None if metrics is None else metrics.resynced
        new_session = partial(Session, hello, asked=asked, silence=silence, unix_nano=moments.unix_nano)
        self._node_name = node.name.encode()
        self._metrics = metrics
        self._release_file = release_file
        self._keeper = Keeper(journal, node.name, state_max_age)
        self._programmer = Programmer(node, dataplane, hooks, follow_cidrs, gather)
        self._commits = Commits(self._programmer, new_session, metrics)
        # What happens outside the stream.
        self.kernel_changed = self._commits.kernel_changed
        self.machine_changed = self._commits.machine_changed
        self.reserve = self._commits.reserve

    @property
    def mirror(self) -> Mirror:
        """What this agent knows of the cluster."""
        return self._programmer.mirror

    @property
    def _session(self) -> Session:
        return self._commits.session

    @property
    def complete(self) -> bool:
        """Whether this kernel has had a whole state since the start."""
        return self._programmer.complete

    @property
    def drifted(self) -> bool:
        """Whether others changed our tables, and they are not repaired yet."""
        return self._programmer.drifted

    def facts(self) -> Facts:
        """What is known now, for inspection."""
        session, programmer = self._session, self._programmer
        frontends, view, node, dataplane, failed = programmer.facts()
        return Facts(
            mirror=programmer.mirror,
            frontends=frontends,
            view=view,
            node=node,
            dataplane=dataplane,
            failed=failed,
            epoch=session.cursor.epoch,
            rev=session.rev,
            complete=programmer.complete,
            in_step=programmer.in_step,
            drifted=programmer.drifted,
            welcomed=session.welcomed,
            brake=session.brake.message() if session.brake.holds else None,
        )

    # ------------------------------------------------------------ start and end

    def recover(self, alone: Callable[[], bool] = lambda: True) -> None:
        """Takes in the journal's state, to resume by revision.

        It reaches the kernel now only if it is not too old, and if the kernel holds nothing of ours (after a reboot)
        nor of another mode or proxy (`alone`). Otherwise the kernel may be newer: the two are compared once a replica
        has confirmed the state. Whatever is in the journal, this returns.
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
        if changed is not None and not self._programmer.adopted and alone() and self._keeper.fresh():
            with suppress(Exception), self._judging():  # logged by `_spoilt`
                self._commits.compare()

    @contextmanager
    def _judging(self) -> Iterator[None]:
        """What is raised before a kernel has had the journal's state is held against that state."""
        try:
            yield
        except Exception as error:
            if self._keeper.restored and not self._programmer.complete:
                self._spoilt(error)
            raise

    def _spoilt(self, error: Exception) -> None:
        """The journal's state cannot be used: the next stream brings a snapshot."""
        self._keeper.spoilt(error)
        self._commits.begin_anew()

    def close(self) -> None:
        """Closes files and sockets; the rules stay."""
        self._keeper.close()
        self._programmer.close()

    # ------------------------------------------------------------ the stream (client.Conversation)

    def connected(self, now: float) -> bytes:
        """The Hello."""
        return self._session.connected(now)

    def disconnected(self, now: float) -> None:
        """The kernel keeps what it has (S12)."""
        self._session.disconnected()
        self._commits.garbage.pause(while_=False)
        if self._metrics is not None:
            self._metrics.connected(connected=False)

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait and where to go."""
        return self._session.redirect()

    def lost(self, now: float) -> str | None:
        """Why the stream should be given up, if it should."""
        return self._session.lost(now)

    def excused(self, seconds: float, now: float) -> None:
        """This process did not run for `seconds` until now."""
        self._session.excused(seconds, now)

    def unsaid(self, now: float) -> list[bytes]:
        """The Ack that waits for its time, if one does."""
        return self._session.unsaid(now)

    def long_said(self, data: bytes) -> Sequence[bytes]:
        """What the replica hears of a message whose commit takes long. Called beside `received`: reads `data` only."""
        return pending_of(data)

    def handled(self, now: float) -> None:
        """The last message has been handled."""
        self._session.handled(now)
        if self._metrics is not None:
            self._metrics.heard()
            self._metrics.connected(connected=self._session.welcomed)
            self._metrics.braked(self._session.brake.gone)
            self._commits.note()

    def long_message(self, data: bytes) -> bool:
        """Whether this message may take more than some milliseconds."""
        programmer = self._programmer
        return (
            not programmer.in_step
            or programmer.slow
            or self._session.collecting
            or self._keeper.filled_by(len(data))
            or heavy(data, self._node_name)
        )

    def rest(self, now: float) -> float:
        """Seconds in which messages are to gather before the next are taken. Reads only, beside any call."""
        return self._programmer.rest(now)

    def received(self, data: bytes, now: float) -> Sequence[bytes]:
        """As `received_all`, of one message."""
        return self.received_all((data,), now)

    def received_all(self, messages: Sequence[bytes], now: float) -> Sequence[bytes]:
        """Takes messages in order and returns the answers; what they say is then in the kernel, or will be tried again.

        Deltas in a row are one commit. An exception is a defect that may leave a message half done: the next stream's
        whole state is compared with the kernel.
        """
        try:
            return [answer for some in portions(messages) for answer in self._received(some, now)]
        except Exception:
            self._programmer.doubt()
            raise

    def _received(self, messages: Sequence[bytes], now: float) -> Sequence[bytes]:
        """Deltas, or one other message."""
        arrived = time.perf_counter_ns()
        events = [item for data in messages for item in self._taken_in(data, now)]
        self._commits.garbage.pause(while_=self._session.collecting)
        times = (arrived, time.perf_counter_ns())
        answers = [answer for item in together(events) for answer in self._handle(item, times)]
        if not self._programmer.in_step and self._session.current:
            with self._judging():
                answers += self._commits.compare(times)
        return answers

    def _taken_in(self, data: bytes, now: float) -> Iterator[Event]:
        """What the session makes of a message. A delta is journaled at once: the next ones are not in the state yet by
        which a journal begins anew, and it has all that the kernel has. A snapshot, which costs a sync of the disk,
        is after the commit."""
        for item in self._session.received(data, now):
            if isinstance(item, Record) and not item.whole:
                self._keeper.keep(self._session, item)
            else:
                yield item

    def _handle(self, item: Event, times: Times = (0, 0)) -> list[bytes]:
        match item:
            case Changed():
                return self._commits.change(item, times)
            case Send(message):
                return [message]
            case Record():
                self._keeper.keep(self._session, item)
            case Report(code, text):
                event(log, logging.WARNING, "protocol", code=code, text=text)
                if self._metrics is not None:
                    self._metrics.ends.reported(code)
        return []

    # ------------------------------------------------------------ what is due

    def long_tick(self, now: float) -> bool:
        """Whether `tick` may take more than some milliseconds."""
        return self._commits.garbage.untidy or self._keeper.broken or self._programmer.pause(now) <= 0

    def tick(self, now: float) -> Sequence[bytes]:
        """Acks that are due, repairs, and another try at what the kernel refused."""
        self._commits.garbage.tidy()
        brake = self._session.brake
        if brake.holds and taken(self._release_file, brake.since):
            released = self._session.release(now)
            self._commits.later(each for item in released for each in self._handle(item))
        self._keeper.tend(self._session, now)
        with self._judging():
            return self._commits.tick(now)

    def pause(self, now: float) -> float:
        """Seconds until `tick` has something to do; may be infinite."""
        return max(0.0, self._commits.pause(now))
