"""The node agents that this replica knows: the newest session of each. Ended sessions stay visible for a while.

The server reports what happens on a stream, when a stream ends, and calls `expire` once a second; inspection and
metrics read it. Callers pass the time, in monotonic seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, field

from controlplane.rivals import Rivals
from controlplane.session import Session
from controlplane.stream_events import AskedAgain, BroughtUp, Event, Held, Introduced
from deltaplane.v1 import delta_pb2 as pb

KEEP_SECONDS = 600.0  # how long inspection shows a node that left and has no Node object
MAX_DEPARTED = 10_000  # nodes that left and are still shown: a client can invent names without limit


class Tally(Struct):
    """How states were brought up: number by (reason, extent), bytes of snapshots by extent."""

    number: Counter[tuple[str, str]] = field(default_factory=Counter)
    size: Counter[str] = field(default_factory=Counter)

    def count(self, how: BroughtUp) -> None:
        """Adds one."""
        self.number[how.reason, how.extent] += 1
        if how.size:
            self.size[how.extent] += how.size


class Nodes:
    """Sessions by node name. A node that left keeps its closed session until `expire` removes it."""

    def __init__(self) -> None:
        self.sent_bytes = 0  # bytes sent to all of them
        self.sent_messages = 0  # likewise messages
        self.sent_home = 0  # agents that were sent to another replica, because this one had more than its share
        self.sent_on = 0  # likewise because this one did not follow its source
        self.turned_away = 0  # Hellos that were refused meanwhile
        self.resyncs: Counter[str] = Counter()  # ResyncRequests by reason
        self.held: Counter[str] = Counter()  # streams that waited until this replica had caught up, by how that ended
        self.tally = Tally()  # how states were brought up
        self.rivals = Rivals()
        self._sessions: dict[str, Session] = {}
        self._departed: dict[str, float] = {}  # when each node left, the earliest first
        self._left: dict[str, float] = {}  # likewise; looking at it again later changes nothing of it
        self._open: tuple[str, ...] | None = None  # see `open_names`
        self._over = self._moved  # one for all sessions

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def named(self) -> Iterable[tuple[str, Session]]:
        """The sessions with the names of their nodes, which are not read of a message again."""
        return list(self._sessions.items())

    @property
    def open_names(self) -> tuple[str, ...]:
        """The nodes whose newest session is open; the same tuple until a session comes or ends."""
        if self._open is None:
            self._open = tuple(name for name, session in self._sessions.items() if session.closed is None)
        return self._open

    def _moved(self) -> None:
        self._open = None

    def get(self, node_name: str) -> Session | None:
        """The node's newest session, open or closed; None if there is none."""
        return self._sessions.get(node_name)

    def left(self, node_name: str) -> float:
        """When the node's stream ended, in monotonic seconds; 0: it has not."""
        return self._left.get(node_name, 0.0)

    def open_hello(self, node_name: str) -> pb.Hello | None:
        """The Hello of the node's open stream; None if none is open."""
        session = self._sessions.get(node_name)
        return session.hello if session is not None and session.closed is None else None

    def note(self, session: Session, happened: Event) -> None:
        """Takes an event of the session; ignores those that do not concern the nodes."""
        match happened:
            case Introduced():
                self.claim(session)
            case AskedAgain(reason):
                self.resyncs[reason] += 1
            case Held(caught_up):
                self.held["caught up" if caught_up else "still behind"] += 1
            case BroughtUp():
                self.tally.count(happened)

    def claim(self, session: Session) -> None:
        """Makes this the newest stream of its node, and closes an older one as superseded (S15)."""
        older = self._sessions.get(session.node_name)
        self._sessions[session.node_name] = session
        session.ends(self._over)
        self._moved()
        self._departed.pop(session.node_name, None)
        self._left.pop(session.node_name, None)
        if older is not None and older is not session:
            if older.closed is None:
                self.rivals.superseded(older.hello, session.hello)
            older.close("ABORTED", f"superseded by a newer stream of node {session.node_name}")

    def departed(self, session: Session, now: float, *, kept: bool = True) -> None:
        """The session's stream has ended. No effect if a newer stream has replaced it.

        `kept`: it is a Node of the cluster; nothing is kept of any other.
        """
        if self._sessions.get(session.node_name) is not session:
            return
        self.rivals.ended(session.node_name)
        if kept:
            self._departed[session.node_name] = self._left[session.node_name] = now
        else:
            del self._sessions[session.node_name]

    def expire(self, now: float, exists: Callable[[str], bool]) -> None:
        """Removes nodes that left KEEP_SECONDS ago and have no Node object, and the earliest beyond MAX_DEPARTED.

        A node whose object exists is checked again after another KEEP_SECONDS.
        """
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
                self._left.pop(name, None)
