"""Lets a stream in, or ends it: who the peer is, how much it may have, and which of two agents is a node's.

`server` asks it when a stream opens, when its Hello comes, and before an Event is written. Whatever it refuses is
counted, and is one line in the log for each peer and reason.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from controlplane.cluster import Cluster
from controlplane.identity.door import Door
from controlplane.identity.peer import Identity, Refusal
from controlplane.identity.refused import host_of
from controlplane.nodes import Nodes
from controlplane.notices import Notice
from controlplane.session import Closed, Session
from controlplane.stream_shares import NO_HELLO, PROTOCOL, SLOWED, STUCK, Open, ReadRate, StreamShares
from deltaplane.names import is_subdomain
from deltaplane.v1 import delta_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]


class Admission:
    """Of all streams of one replica. `no_agents`: why it takes none now; empty: it does."""

    def __init__(self, door: Door, cluster: Cluster, nodes: Nodes, no_agents: Callable[[], str] = str) -> None:
        self._door, self._nodes, self._no_agents = door, nodes, no_agents
        self._shares = StreamShares(cluster.has_node, lambda: cluster.nodes)

    @asynccontextmanager
    async def stream(self, context: Context, requests: AsyncIterator[Any]) -> AsyncIterator[Admitted]:
        """The place of one stream while the context is open. Ends the call of a peer that may not have it."""
        host = host_of(context.peer())
        await self._unless(self._shares.full(host), context)
        with self._shares.stream(host) as place:
            identity = await self._door.agent(context, requests)
            await self._unless(self._shares.crowded(identity), context)
            with self._shares.node(identity):
                yield Admitted(self._door, identity, place, self._nodes, self._shares, no_agents=self._no_agents)

    async def _unless(self, refusal: Refusal | None, context: Context) -> None:
        if refusal is not None:
            await self._door.refused.end(refusal, context)

    def tells(self, notice: Notice) -> bool:
        """Whether this notice goes out: it is about a Node of the cluster, and there are few."""
        return self._shares.tells(notice.node, time.monotonic())


class Admitted:
    """One stream that was let in."""

    def __init__(
        self,
        door: Door,
        identity: Identity,
        place: Open,
        nodes: Nodes,
        shares: StreamShares,
        *,
        no_agents: Callable[[], str],
    ) -> None:
        self._no_agents = no_agents
        self._door, self._identity, self._place, self._nodes, self._shares = door, identity, place, nodes, shares
        self._rate = ReadRate()  # until its Hello was taken

    def hello(self, session: Session, hello: pb.Hello) -> Notice | None:
        """Ends the stream of a peer that says it is another node, comes too often, or is the second agent of its node.

        Returns what the operator has to hear of it.
        """
        if session.node_name:
            return None  # a second Hello, which the session refuses
        refusal, notice = self._door.another(self._identity, hello.node_name, session.peer), None
        if refusal is None and (reason := self._no_agents()):
            self._nodes.turned_away += 1  # the log has a line of it already, for all agents
            session.close("UNAVAILABLE", f"this replica takes no agents now: {reason}; try another")
            return None
        if refusal is None:
            refusal, notice = self._rival(hello)
            refusal = refusal or self._place.hello(_checked(hello), time.monotonic())
            if refusal is not None:
                self._door.refused.note(refusal, session.peer, "" if self._place.strange else _checked(hello))
        if refusal is not None:
            session.close(refusal.status, refusal.text)
        else:
            self._rate = self._shares.read_rate(self._place, _checked(hello))
        return notice

    def _rival(self, hello: pb.Hello) -> tuple[Refusal | None, Notice | None]:
        holder = self._nodes.open_hello(hello.node_name)
        refusal = self._nodes.rivals.refusal(holder, hello)
        if refusal is None or holder is None:
            return None, None
        return refusal, self._nodes.rivals.alarm(holder, hello)

    def wait(self, session: Session, size: int) -> float:
        """For how many seconds to read nothing more from this stream after a message of `size` bytes; 0 for all but
        floods."""
        wait = self._rate.wait(size, time.monotonic())
        if wait:
            self._door.refused.note(SLOWED, session.peer, session.node_name)
        return wait

    def stuck(self, session: Session, seconds: float) -> None:
        """The peer has not taken a message for so long: its stream ends, and nothing waits for it any more."""
        self._door.refused.note(STUCK, session.peer, session.node_name)
        session.close("DEADLINE_EXCEEDED", f"the agent has not taken a message for {seconds:g} s")

    async def ended(self, session: Session, closed: Closed) -> None:
        """Counts an end that the peer is to blame for, and returns when the call may end: later where it has many."""
        if closed.status == "INVALID_ARGUMENT":
            self._door.refused.note(Refusal(closed.status, PROTOCOL, closed.detail), session.peer, session.node_name)
        elif closed.status == "DEADLINE_EXCEEDED" and not session.node_name:
            self._door.refused.note(Refusal(closed.status, NO_HELLO, closed.detail), session.peer)
        await self._door.refused.hold(closed.status, session.peer)


def _checked(hello: pb.Hello) -> str:
    """The name, if it can be a Node's; else empty: nothing is remembered under it."""
    return hello.node_name if is_subdomain(hello.node_name) else ""
