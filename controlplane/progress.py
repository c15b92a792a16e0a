"""What nodes have in their kernels, as their Acks say it: told to traces and to whoever tails commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from controlplane.inflight import Applied
from controlplane.session import Session
from controlplane.trace import NodeCommit, Tracing
from deltaplane.v1 import inspection_pb2

BACKLOG = 1000  # commits a slow tail may lag before it loses the oldest


class Progress:
    """Fed by the server with every commit an Ack reports."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._tails: set[asyncio.Queue[NodeCommit]] = set()

    def applied(self, session: Session, applied: Applied, acked_ns: int, nodes: int) -> None:
        """A node's kernel has what `applied` says; the Ack arrived at `acked_ns` (Unix), `nodes` are known."""
        commit = NodeCommit(
            node=session.node_name,
            nodes=nodes,
            causes=applied.causes,
            report=applied.report,
            emitted_ns=applied.emitted_unix_nano,
            sent_ns=applied.sent_unix_nano,
            acked_ns=acked_ns,
            failed=bool(session.failed),
        )
        self._tracing.committed(commit)
        for tail in self._tails:
            if tail.full():
                tail.get_nowait()
            tail.put_nowait(commit)

    async def tail(self) -> AsyncIterator[NodeCommit]:
        """Commits from now on."""
        queue: asyncio.Queue[NodeCommit] = asyncio.Queue(BACKLOG)
        self._tails.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._tails.discard(queue)


def to_message(commit: NodeCommit) -> inspection_pb2.TailCommitsResponse:
    """A commit as inspection shows it; durations are 0 where no API event caused it (the first state)."""
    events = [cause.event_unix_nano for cause in commit.causes if cause.event_unix_nano]
    message = inspection_pb2.TailCommitsResponse(node_name=commit.node, commit=commit.report, causes=commit.causes)
    if events:
        message.event_to_ack_ns = max(0, commit.acked_ns - min(events))
        message.event_to_commit_ns = max(0, commit.committed_ns - min(events))
    return message
