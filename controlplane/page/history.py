"""The last changes and the lag of the last minutes, kept while nobody looks, so that the page begins with them.

It knows this replica's nodes alone: of the other replicas' commits the page hears from when somebody looks. A commit
costs an addition, a look at the lag a comparison for each node; both are bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from msgspec import Struct, field

from controlplane.page.rows import bands_of
from controlplane.page.waterfall import Waterfall
from controlplane.progress import to_message
from controlplane.session import Session
from controlplane.trace import NodeCommit
from deltaplane.v1 import delta_pb2

ROUNDS = 60  # deltas: a change takes one or more, as nodes get it alone or with others
FAILED = 5  # nodes that are named
PERIOD = 10.0  # seconds between two looks at the lag
LOOKS = 90


class Round(Struct):
    """The commits of one delta: those that name the same causes."""

    causes: tuple[delta_pb2.Cause, ...]
    newest: NodeCommit  # whose Ack came last: the slowest so far
    nodes: int = 0
    failed: list[str] = field(default_factory=list)


class Look(Struct, frozen=True):
    """How many nodes lagged by how much. `at`: Unix milliseconds; `own`: of this replica's nodes alone."""

    at: int
    bands: list[int]
    own: bool = False


class History:
    """`commit` gets each commit of this replica's nodes; `run` looks at the lag until cancelled."""

    def __init__(self, sessions: Callable[[], Iterable[Session]]) -> None:
        self._sessions = sessions
        self._rounds: deque[Round] = deque(maxlen=ROUNDS)
        self._looks: deque[Look] = deque(maxlen=LOOKS)

    def commit(self, commit: NodeCommit) -> None:
        """A node of this replica has acknowledged one."""
        found = next((each for each in reversed(self._rounds) if each.causes is commit.causes), None)
        if found is None:
            if not any(cause.event_unix_nano for cause in commit.causes):
                return
            found = Round(commit.causes, commit)
            self._rounds.append(found)
        found.newest = commit
        found.nodes += 1
        if commit.failed and len(found.failed) < FAILED:
            found.failed.append(commit.node)

    def fill(self, waterfall: Waterfall) -> None:
        """Begins a waterfall with what is kept."""
        for each in self._rounds:
            waterfall.recall(to_message(each.newest), each.nodes, each.failed)

    def looks(self) -> list[Look]:
        """The oldest first."""
        return list(self._looks)

    def look(self, now: float, unix: float) -> None:
        """`now`: monotonic seconds."""
        lags = (None if each.closed is not None else each.behind_seconds(now) for each in self._sessions())
        self._looks.append(Look(int(unix * 1000), bands_of(lags), own=True))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look(time.monotonic(), time.time())
            await asyncio.sleep(PERIOD)
