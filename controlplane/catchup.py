"""The snapshot that one stream needs: why, from when on, and the messages that are still to send.

`controlplane.feed` owns it and decides when the stream needs a snapshot. `controlplane.inquiry` finds out what the
agent has, and `controlplane.snapshot.Snapshots` whether the snapshot is whole or, where digests are known, partial.
"""

from __future__ import annotations

from collections.abc import Callable

from controlplane.inquiry import Inquiry
from controlplane.snapshot import Snapshots
from controlplane.stream_events import BroughtUp
from deltaplane.snapshot import Snapshot
from deltaplane.v1 import delta_pb2 as pb

CONNECTED, LEFT_BEHIND = "CONNECTED", "LEFT_BEHIND"  # further reasons: a Hello; a stream too slow for the log
DELTA, NOTHING, PARTIAL, WHOLE = "delta", "nothing", "partial", "whole"  # extents


class CatchUp:
    """`at`: not before this time, in monotonic seconds. `inquiry`: what is known of the agent's digests."""

    def __init__(self, snapshots: Snapshots, wake: Callable[[], None]) -> None:
        self.at = 0.0
        self.inquiry = Inquiry(snapshots.digest)
        self._snapshots, self._wake = snapshots, wake
        self._reason = ""
        self._messages: list[bytes] = []  # the last one first

    @property
    def wanted(self) -> bool:
        """Whether the stream needs a snapshot that has not begun."""
        return bool(self._reason)

    @property
    def sending(self) -> bool:
        """Whether messages of a snapshot are still to be sent."""
        return bool(self._messages)

    def want(self, at: float, reason: str, held: bytes = b"", *, asks: bool = False) -> None:
        """Requests a snapshot, not before `at`. `held`: the agent's bucket digests; empty: a whole snapshot.

        `asks`: the agent can be asked for digests, also for those of the buckets.
        """
        self.at, self._reason = at, reason
        self.inquiry.begin(held, asks=asks)
        self._messages.clear()

    def begin(self, encoding: pb.Encoding.ValueType, at_least: int) -> tuple[int, BroughtUp] | None:
        """Starts a snapshot of revision `at_least` or later. None: it is being built, and `wake` follows."""
        snapshot = self._snapshots.take(encoding, at_least, self._wake, self.inquiry.held)
        if snapshot is None:
            return None
        outcome = brought_up(self._reason, snapshot)
        self._messages = list(reversed(snapshot.messages))
        self._reason = ""
        self.inquiry.end()  # the digests take 16 KB per stream
        return snapshot.rev, outcome

    def next(self) -> bytes:
        """The next message of the snapshot. Raises IndexError when there is none."""
        return self._messages.pop()

    def give_up(self) -> None:
        """Drops everything; the stream has ended."""
        self._messages.clear()
        self._reason = ""
        self._wake = lambda: None
        self.inquiry.end()


def brought_up(reason: str, snapshot: Snapshot) -> BroughtUp:
    """The event for a snapshot: the whole state, some places, or no place (only the revision is new)."""
    places = snapshot.places
    if places is None:
        extent, text = WHOLE, "the whole state"
    else:
        extent = PARTIAL if places.numbers else NOTHING
        text = f"{len(places.numbers)} of {places.level.number} {places.level.name}"
    return BroughtUp(reason, extent, text, sum(map(len, snapshot.messages)))


def resumed(reason: str, *, equal: bool) -> BroughtUp:
    """The event for an agent that connects and needs no snapshot. `equal`: it lacks nothing at all."""
    return BroughtUp(CONNECTED, NOTHING if equal else DELTA, reason)
