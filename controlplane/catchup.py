"""How one stream gets a state to build on: what it needs, since when, and why; then the snapshot, message by message.

Owned by the session, which decides that it is needed. A whole snapshot, or a partial one for an agent that said what it
holds: `controlplane.snapshot.Snapshots` knows which. What came of it is counted for all streams (`Tally`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from msgspec import Struct, field

from controlplane.snapshot import Snapshots
from deltaplane.digest import BUCKETS
from deltaplane.snapshot import Snapshot
from deltaplane.v1 import delta_pb2 as pb

CONNECTED, LEFT_BEHIND = "CONNECTED", "LEFT_BEHIND"  # reasons besides those of ResyncReason: Hello; a stream too slow
DELTA, NOTHING, PARTIAL, WHOLE = "delta", "nothing", "partial", "whole"  # extents


class Tally(Struct):
    """How states were brought up: number by (reason, extent), bytes of snapshots by extent."""

    number: Counter[tuple[str, str]] = field(default_factory=Counter)
    size: Counter[str] = field(default_factory=Counter)


class CatchUp:
    """`why`: how the state was brought up last, for an operator. Times are monotonic seconds."""

    def __init__(self, snapshots: Snapshots, tally: Tally, wake: Callable[[], None]) -> None:
        self.needed = False
        self.at = 0.0  # not before
        self.under_way = False  # being built; `wake` tells when it is there
        self.why = ""
        self._snapshots, self._tally, self._wake = snapshots, tally, wake
        self._messages: deque[bytes] = deque()
        self._held: Sequence[int] = ()
        self._reason = ""

    @property
    def busy(self) -> bool:
        """Whether a snapshot is needed or on its way."""
        return self.needed or bool(self._messages)

    @property
    def sending(self) -> bool:
        """Whether there is more of a snapshot to send."""
        return bool(self._messages)

    def want(self, at: float, reason: str, held: Sequence[int] = ()) -> None:
        """A snapshot is needed, not before `at`. `held`: the agent's bucket digests; empty: it needs the whole."""
        self.needed, self.under_way, self.at = True, False, at
        self._reason, self._held = reason, tuple(held)
        self._messages.clear()

    def resumed(self, reason: str, *, equal: bool) -> None:
        """An agent that came needs no snapshot, for this reason. `equal`: it lacks nothing."""
        self._note(CONNECTED, NOTHING if equal else DELTA, reason)

    def begin(self, now: float, encoding: pb.Encoding.ValueType, at_least: int) -> Snapshot | None:
        """The snapshot that is sent from now on, of revision `at_least` or later; None: not yet."""
        if now < self.at:
            return None
        snapshot = self._snapshots.take(encoding, at_least, self._wake, self._held)
        self.under_way = snapshot is None
        if snapshot is None:
            return None
        self._messages.extend(snapshot.messages)
        self.needed, self._held = False, ()  # 10 KB that no stream needs any more
        self._count(snapshot)
        return snapshot

    def next(self) -> bytes:
        """The next message of it."""
        return self._messages.popleft()

    def give_up(self) -> None:
        """The stream ends."""
        self._messages.clear()

    def _count(self, snapshot: Snapshot) -> None:
        buckets = snapshot.buckets
        extent = WHOLE if buckets is None else PARTIAL if buckets else NOTHING
        text = "the whole state" if buckets is None else f"{len(buckets)} of {BUCKETS} buckets"
        self._note(self._reason, extent, text)
        self._tally.size[extent] += sum(map(len, snapshot.messages))

    def _note(self, reason: str, extent: str, text: str) -> None:
        self._tally.number[reason, extent] += 1
        self.why = f"{reason}: {extent}, {text}"
