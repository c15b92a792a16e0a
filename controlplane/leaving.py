"""How a replica parts from its agents: from all when it stops, or alone does not follow its source; from some when it
has far more than its share.

The server calls `send_away` once probes say that it does not serve and new streams are refused: Acks first, then a
GoAway to one after the other. An agent leaves at its GoAway, so the pauses between them keep the agents from arriving
at another replica all at once. `send_home` or `send_on` is called once a second (`controlplane.rebalance` and
`controlplane.aside` decide).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from math import ceil

from controlplane.nodes import Nodes
from controlplane.reached import Reached
from controlplane.rebalance import Rebalance, home
from controlplane.session import Session

ACK_SECONDS = 2.0  # that Acks are waited for: longer than the longest interval of an agent (stream_limits.py)
LOOK_SECONDS = 0.02  # between two looks whether they are in
EACH_SECONDS = 0.01  # between two GoAways
SPREAD_SECONDS = 25.0  # for all GoAways at most
CLOSE_SECONDS = 2.0  # for the last streams to end; a pod's grace period is longer than all three together
REASON = "this replica stops"
ELSEWHERE = "this replica has more than its share"
UNFOLLOWED = "this replica does not follow its source, and others do"

Sleep = Callable[[float], Awaitable[object]]


async def send_away(sessions: Iterable[Session], sleep: Sleep = asyncio.sleep) -> None:
    """Ends all sessions that are open."""
    leaving = [session for session in sessions if session.closed is None]
    await _acks(leaving, sleep)
    pause = min(EACH_SECONDS, SPREAD_SECONDS / max(1, len(leaving)))
    for number, session in enumerate(leaving):
        if number:
            await sleep(pause)
        if session.closed is None:
            session.go_away(REASON, retry_after_ms=250)
            session.close("UNAVAILABLE", REASON)


def send_home(rebalance: Rebalance, reached: Reached, nodes: Nodes, number: int, now: float) -> None:
    """Sends those to their home that `rebalance` says, of a cluster with so many nodes."""
    streams = (session for session in nodes if session.closed is None and not session.sent_away)
    for session, there in rebalance.look(now, streams, number, reached.spread):
        session.go_away(ELSEWHERE, targets=(there,))
        nodes.sent_home += 1


def send_on(nodes: Nodes, places: Collection[str]) -> None:
    """Sends a second's share of all agents to these replicas, as fast as a replica that stops does."""
    most = ceil(max(1 / EACH_SECONDS, len(nodes) / SPREAD_SECONDS))
    streams = [session for session in nodes if session.closed is None and not session.sent_away]
    for session in streams[:most]:
        session.go_away(UNFOLLOWED, targets=(home(session.node_name, places),))
        nodes.sent_on += 1


async def _acks(sessions: Iterable[Session], sleep: Sleep) -> None:
    """Until what has been sent by now is acknowledged by all, or time is up."""
    sent = [(session, session.sent_rev) for session in sessions]
    for _ in range(int(ACK_SECONDS / LOOK_SECONDS)):
        sent = [(session, rev) for session, rev in sent if session.closed is None and session.applied_rev < rev]
        if not sent:
            return
        await sleep(LOOK_SECONDS)
