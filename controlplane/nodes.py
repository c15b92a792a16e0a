"""The node agents this replica knows: one session each, the newest. Sessions that have ended stay for a while.

Called by the server with what happens on a stream, when a stream ends, and once a second; read by inspection. Time is
given to it, in monotonic seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from controlplane.catchup import Tally
from controlplane.session import Session
from controlplane.stream_events import AskedAgain, Event, Introduced

KEEP_SECONDS = 600.0  # how long inspection shows a node that left and that has no Node object
MAX_DEPARTED = 10_000  # nodes that left and are still shown; names cost nothing to make up


class Nodes:
    """Sessions by node name. The session of a node that left stays, closed, until `expire` forgets it."""

    def __init__(self) -> None:
        self.sent_bytes = 0  # to all of them
        self.resyncs: Counter[str] = Counter()  # states that agents asked for again, by reason
        self.tally = Tally()  # how states were brought up
        self._sessions: dict[str, Session] = {}
        self._departed: dict[str, float] = {}  # when each node left, the earliest first

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, node_name: str) -> Session | None:
        """The node's newest session, open or closed; None if it never came or is forgotten."""
        return self._sessions.get(node_name)

    def note(self, session: Session, happened: Event) -> None:
        """Takes what the session says happened; what is no concern of the nodes is left."""
        match happened:
            case Introduced():
                self.claim(session)
            case AskedAgain(reason):
                self.resyncs[reason] += 1

    def claim(self, session: Session) -> None:
        """This is the newest stream of its node; an older one that is open ends as superseded (S15)."""
        older = self._sessions.get(session.node_name)
        self._sessions[session.node_name] = session
        self._departed.pop(session.node_name, None)
        if older is not None and older is not session and older.closed is None:
            older.close("ABORTED", f"superseded by a newer stream of node {session.node_name}")

    def departed(self, session: Session, now: float) -> None:
        """The session's stream has ended. Nothing if a newer one has taken its place."""
        if self._sessions.get(session.node_name) is session:
            self._departed[session.node_name] = now

    def expire(self, now: float, exists: Callable[[str], bool]) -> None:
        """Forgets nodes that left KEEP_SECONDS ago and whose Node object is gone (`exists`), and the earliest beyond
        MAX_DEPARTED. One whose Node exists is asked for again after another KEEP_SECONDS."""
        while self._departed:
            name, since = next(iter(self._departed.items()))
            full = len(self._departed) > MAX_DEPARTED
            if now - since < KEEP_SECONDS and not full:
                return
            del self._departed[name]
            if exists(name) and not full:
                self._departed[name] = now
            else:
                del self._sessions[name]
