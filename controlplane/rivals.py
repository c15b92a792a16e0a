"""Which of two agents is a node's. Pure; called by the server when a Hello comes, before anything moves.

The newest stream of a node wins (S15). An agent that was superseded by another agent of the same name, and that comes
back while the other's stream is open, is one of two that run at the same time: it is refused, so that the node's stream
stays with the newer one. It is taken as soon as that stream has ended. Agents differ by (node_uid, agent_instance).
"""

from __future__ import annotations

from controlplane.identity.peer import Refusal
from controlplane.notices import Notice
from deltaplane.names import shown
from deltaplane.v1 import delta_pb2 as pb

MOST = 8  # superseded agents that are remembered for one node
Agent = tuple[str, str]  # node_uid, agent_instance


def agent_of(hello: pb.Hello) -> Agent:
    """What tells agents of one name apart."""
    return hello.node_uid, hello.agent_instance


class Rivals:
    """The superseded agents of each node, for as long as the stream that superseded them is open."""

    def __init__(self) -> None:
        self._beaten: dict[str, dict[Agent, bool]] = {}  # whether the operator was told

    def __len__(self) -> int:
        return len(self._beaten)

    def refusal(self, open_now: pb.Hello | None, hello: pb.Hello) -> Refusal | None:
        """Why this agent is not taken; None: it is. `open_now`: the Hello of the node's open stream, None: none is."""
        if open_now is None:
            self._beaten.pop(hello.node_name, None)
            return None
        beaten = self._beaten.get(hello.node_name, {})
        holder, new = agent_of(open_now), agent_of(hello)
        if holder == new or not new[1] or not holder[1]:
            return None
        if new in beaten:
            return Refusal("RESOURCE_EXHAUSTED", "two-agents", _text(hello, open_now))
        return None

    def superseded(self, older: pb.Hello, newer: pb.Hello) -> None:
        """The newer agent's stream has taken the place of the older one's, which was open."""
        if agent_of(older) == agent_of(newer) or not older.agent_instance:
            return
        beaten = self._beaten.setdefault(older.node_name, {})
        beaten[agent_of(older)] = False
        if len(beaten) > MOST:
            del beaten[next(iter(beaten))]

    def ended(self, name: str) -> None:
        """The node's newest stream has ended: whoever comes next is taken."""
        self._beaten.pop(name, None)

    def alarm(self, open_now: pb.Hello, hello: pb.Hello) -> Notice | None:
        """For the operator, once for each agent that `refusal` refuses: two agents run under one node's name."""
        beaten, new = self._beaten.get(hello.node_name, {}), agent_of(hello)
        if beaten.get(new, True):
            return None
        beaten[new] = True
        return _alarm(open_now, hello)


def _alarm(open_now: pb.Hello, hello: pb.Hello) -> Notice:
    return Notice(hello.node_name, open_now.agent_instance, "TwoAgents", _text(hello, open_now))


def _text(hello: pb.Hello, open_now: pb.Hello) -> str:
    return (
        f"two agents run as node {hello.node_name}: {_named(open_now)} has the stream, {_named(hello)} is refused; "
        f"end one of them"
    )


def _named(hello: pb.Hello) -> str:
    return f"instance {shown(hello.agent_instance)}" + (f" of {shown(hello.node_uid)}" if hello.node_uid else "")
