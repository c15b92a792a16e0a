"""When the journal is written, and what of it may be used at a start.

Called by the agent. No content of a journal may keep an agent from starting: if taking it in raises, or the first
commit of it, the journal is set aside (`spoilt`), and the agent begins with no state, as on a new node. The same holds
for a journal whose replay ends the process, as by too much memory, at some starts in a row.
"""

from __future__ import annotations

import logging

from deltaplane.logs import event
from deltaplane.names import shown
from deltaplane.snapshot import build
from nodeagent.stream.events import Changed, Record
from nodeagent.stream.journal import Journal
from nodeagent.stream.session import Session

log = logging.getLogger(__name__)

STATE_MAX_AGE = 24 * 3600.0  # seconds
FRAMING = 4096  # bytes at most that the journal adds to a message
TRIES = 3  # starts that may end while they replay


class Keeper:
    """`journal` None: nothing is kept. `max_age`: seconds after which a state is not programmed by itself."""

    def __init__(self, journal: Journal | None, node: str, max_age: float = STATE_MAX_AGE) -> None:
        self._journal = journal
        self._node = node
        self._max_age = max_age
        self.restored = False  # the agent's state came from the journal

    def restore(self, session: Session, now: float) -> Changed | None:
        """Takes in what was kept; None if there was nothing of this node. Raises whatever its content leads to."""
        journal = self._journal
        found = None if journal is None else journal.replay()
        if journal is None or found is None or not found.messages:
            return None
        if found.owner.node not in ("", self._node):
            journal.set_aside(f"it is the state of node {shown(found.owner.node)}, and this is {self._node}")
            return None
        if (ended := journal.trying()) >= TRIES:
            journal.set_aside(f"{ended} starts ended while they replayed it")
            return None
        self.restored = True
        changed = session.restore(found.messages, now, found.owner.cluster)
        if changed is None:
            raise ValueError("it has no whole state")
        journal.resume(found, session.restored)
        services = len(session.mirror.services)
        event(log, logging.INFO, "state recovered", rev=changed.rev, services=services, age=_shown(journal.age()))
        return changed

    def recovered(self) -> None:
        """The start is over, whatever came of the journal's state."""
        if self._journal is not None:
            self._journal.tried()

    def fresh(self) -> bool:
        """Whether what was kept may go to an empty kernel before a replica has confirmed it; says so if not."""
        age = None if self._journal is None else self._journal.age()
        if age is not None and age < self._max_age:
            return True
        text = "the state on disk is too old to be programmed: the kernel waits for a replica's word"
        event(log, logging.WARNING, text, age=_shown(age), limit=f"{self._max_age:.0f} s")
        return False

    def spoilt(self, error: Exception) -> None:
        """The content cannot be used: the journal is set aside, so that the next start does not read it."""
        self.restored = False
        if self._journal is not None:
            self._journal.set_aside(f"it cannot be replayed: {type(error).__name__}: {shown(str(error))}")

    def keep(self, session: Session, record: Record) -> None:
        """Writes what the session says."""
        if self._journal is not None:
            self._journal.keep(record, session.cluster)
            if self._journal.full():
                self._begin(self._journal, session)

    def filled_by(self, size: int) -> bool:
        """Whether a message of so many bytes makes the journal too large, so that the whole state is written."""
        return self._journal is not None and self._journal.full(size + FRAMING)

    @property
    def broken(self) -> bool:
        """Whether a try at writing the whole state is due, now or soon."""
        return self._journal is not None and bool(self._journal.broken)

    def tend(self, session: Session, now: float) -> None:
        """Writes the whole state where writing failed before; confirms what is kept while following."""
        if self._journal is None or not session.synced:
            return
        if session.following:
            self._journal.confirm(now)
        if self._journal.due(now):
            self._begin(self._journal, session)

    def close(self) -> None:
        """Lets go of the file; it stays."""
        if self._journal is not None:
            self._journal.close()

    def _begin(self, journal: Journal, session: Session) -> None:
        journal.keep(Record(build(session.capture()).messages, whole=True), session.cluster)


def _shown(age: float | None) -> str:
    return "unknown" if age is None else f"{age:.0f} s"
