"""The node agents this replica knows: one live session each, the newest.

Called by sessions when an agent introduces itself, by the server when a stream ends, and read by inspection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlplane.session import Session


class Nodes:
    """Sessions by node name. The session of a node that left stays, closed, for inspection."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, node_name: str) -> Session | None:
        """The node's newest session, open or closed; None if it never came."""
        return self._sessions.get(node_name)

    def claim(self, session: Session) -> None:
        """This is the newest stream of its node; an older one that is open ends as superseded (S15)."""
        older = self._sessions.get(session.node_name)
        self._sessions[session.node_name] = session
        if older is not None and older is not session and older.closed is None:
            older.close("ABORTED", f"superseded by a newer stream of node {session.node_name}")

    def forget(self, node_name: str) -> None:
        """The node is gone from the cluster."""
        session = self._sessions.get(node_name)
        if session is not None and session.closed is not None:
            del self._sessions[node_name]
