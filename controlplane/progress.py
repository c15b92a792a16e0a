"""The commits that nodes report in their Acks: goes to traces and to TailCommits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controlplane.inflight import Applied
from controlplane.session import Session
from controlplane.trace import NodeCommit, Tracing
from deltaplane.shares import Allowance, Shares
from deltaplane.v1 import inspection_pb2

BACKLOG = 1000  # commits that a tail may lag; beyond, it loses the oldest

TAILS = 64  # at once; one address has half of them at most
TOLD, TOLD_AT_ONCE = 4000.0, 200.0  # commits per second that all tails together are told: a fifth of a core
NAP = 0.005  # seconds: a shorter pause is not worth a timer, and is made up for by the next one


class TooManyTails(Exception):
    """This caller may open no further tail; the text says why."""


class Progress:
    """The server calls `applied` for each commit that an Ack reports."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self.tails_refused = 0
        self._callers = Shares[str]()
        self._tails: set[asyncio.Queue[NodeCommit]] = set()
        self._heard: Callable[[NodeCommit], None] | None = None
        self._told = Allowance(TOLD, TOLD_AT_ONCE)

    def applied(self, session: Session, applied: Applied, acked_ns: int, nodes: int) -> None:
        """Takes one commit. `acked_ns`: when the Ack arrived (Unix). `nodes`: how many nodes this replica knows."""
        commit = NodeCommit(
            node=session.node_name,
            nodes=nodes,
            causes=applied.causes,
            report=applied.report,
            emitted_ns=applied.emitted_unix_nano,
            sent_ns=applied.sent_unix_nano,
            acked_ns=acked_ns,
            failed=bool(session.acked.failed),
        )
        self._tracing.committed(commit)
        if self._heard is not None:
            self._heard(commit)
        for tail in self._tails:
            if tail.full():
                tail.get_nowait()
            tail.put_nowait(commit)

    def hear(self, heard: Callable[[NodeCommit], None]) -> None:
        """Has it called with each commit. It must be cheap: it holds up the stream."""
        self._heard = heard

    async def pause(self) -> None:
        """Returns when the tail that has just been told one commit may be told the next."""
        if (wait := self._told.owe(time.monotonic())) > NAP:
            await asyncio.sleep(wait)

    @property
    def listens(self) -> bool:
        """Whether anybody takes commits: a collector, the page's history, or a tail."""
        return self._tracing.listens or self._heard is not None or bool(self._tails)

    def __len__(self) -> int:
        """How many callers tail the commits."""
        return len(self._tails)

    @contextmanager
    def place(self, caller: str = "") -> Iterator[None]:
        """A place among the tails, while the context is open. Raises `TooManyTails`. `caller`: its address."""
        if not self._callers.fits(caller, TAILS - len(self._callers)):
            self.tails_refused += 1
            raise TooManyTails(f"{len(self._callers)} tails are open, {self._callers.held(caller)} of this address")
        self._callers.enter(caller)
        try:
            yield
        finally:
            self._callers.leave(caller)

    @contextmanager
    def tail(self, caller: str = "") -> Iterator[asyncio.Queue[NodeCommit]]:
        """The commits from now on, while the context is open. Raises `TooManyTails`. `caller`: its address."""
        queue: asyncio.Queue[NodeCommit] = asyncio.Queue(BACKLOG)
        with self.place(caller):
            self._tails.add(queue)
            try:
                yield queue
            finally:
                self._tails.discard(queue)


def to_message(commit: NodeCommit) -> inspection_pb2.TailCommitsResponse:
    """A commit as inspection shows it. Durations are 0 if no API event caused it (the first state)."""
    events = [cause.event_unix_nano for cause in commit.causes if cause.event_unix_nano]
    message = inspection_pb2.TailCommitsResponse(node_name=commit.node, commit=commit.report, causes=commit.causes)
    message.failed = commit.failed
    if events:
        message.event_to_ack_ns = max(0, commit.acked_ns - min(events))
        message.event_to_commit_ns = max(0, commit.committed_ns - min(events))
    return message
