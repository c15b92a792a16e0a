"""Where the agent's side of a stream stands: its phase, its revisions, what follows from them. The session's base."""

from __future__ import annotations

from enum import Enum

from nodeagent.stream.acks import Acks
from nodeagent.stream.cursor import Position
from nodeagent.stream.snapshot_assembler import Collector


class Phase(Enum):
    DISCONNECTED = 0
    GREETING = 1
    FOLLOWING = 2
    AWAITING = 3
    COLLECTING = 4


class Standing:
    """The session moves it; everybody else reads it."""

    def __init__(self) -> None:
        self.position = Position()
        self._acks = Acks()
        self._phase = Phase.DISCONNECTED
        self._collector: Collector | None = None
        self._target = 0  # the replica's head at its Welcome, in its epoch
        self._told_head = 0  # the newest of its revisions that the replica has told of, likewise

    @property
    def collecting(self) -> bool:
        """Whether a snapshot is on its way."""
        return self._collector is not None

    @property
    def synced(self) -> bool:
        """Whether there is a state, however old."""
        return bool(self.position.epoch)

    @property
    def rev(self) -> int:
        """The mirror's revision, in `epoch`."""
        return self.position.rev

    @property
    def head(self) -> int:
        """The newest revision that is known of, in `epoch`."""
        return max(self.rev, self._told_head)

    @property
    def behind(self) -> bool:
        """Whether the kernel is not known to have what the replica has."""
        return not self.following or self.applied_rev < self.head

    @property
    def welcomed(self) -> bool:
        """Whether the stream is open and the replica said Welcome."""
        return self._phase not in (Phase.DISCONNECTED, Phase.GREETING)

    @property
    def following(self) -> bool:
        """Whether the state is that of the replica at `rev`, and deltas are taken in."""
        return self._phase is Phase.FOLLOWING

    @property
    def current(self) -> bool:
        """Whether the mirror is at least what the replica had when it said Welcome.

        A snapshot that agents share may be older than head, and older than what this node's kernel holds.
        """
        return self._phase is Phase.FOLLOWING and self.rev >= self._target

    @property
    def applied_rev(self) -> int:
        """What the kernel has, in `epoch`."""
        return self._acks.applied_rev
