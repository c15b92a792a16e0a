"""How far the agent has come: the stream's phase, the revisions received, applied and acknowledged.

Base of the session. The session and its `reception` change it; others read it. Revisions are of the cursor's epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from deltaplane.states import Machine
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.acks import Acks, pending
from nodeagent.stream.cursor import Cursor
from nodeagent.stream.phases import TRANSITIONS, Phase


class Progress:
    """`phases` moves by the transition table. `cluster`: Welcome.cluster_id of the mirror's state; empty: not known."""

    def __init__(self) -> None:
        self.phases = Machine(TRANSITIONS)
        self.cursor = Cursor()
        self.acks = Acks()
        self.cluster = ""
        self.offered = ""  # the cluster of the replica that this stream leads to
        self.target = 0  # the replica's head at its Welcome
        self.told_head = 0  # the newest revision that the replica announced
        self.acked_rev = -1  # received_rev of the last Ack of this stream

    @property
    def phase(self) -> Phase:
        return self.phases.state

    @property
    def collecting(self) -> bool:
        """Whether a snapshot is being received."""
        return self.phase is Phase.COLLECTING

    @property
    def synced(self) -> bool:
        """Whether the mirror has a state, however old."""
        return bool(self.cursor.epoch)

    @property
    def rev(self) -> int:
        """The mirror's revision."""
        return self.cursor.rev

    @property
    def head(self) -> int:
        """The newest revision that this agent knows of."""
        return max(self.rev, self.told_head)

    @property
    def behind(self) -> bool:
        """Whether the kernel may lack something that the replica has."""
        return not self.following or self.applied_rev < self.head

    @property
    def welcomed(self) -> bool:
        """Whether the stream is open and the replica sent its Welcome."""
        return self.phase not in (Phase.DISCONNECTED, Phase.GREETING)

    @property
    def following(self) -> bool:
        """Whether the mirror has the replica's state of `rev`, and deltas are taken in."""
        return self.phase is Phase.FOLLOWING

    @property
    def current(self) -> bool:
        """Whether the mirror has at least what the replica had when it sent its Welcome.

        A snapshot that agents share may be older than head, and older than what this node's kernel holds.
        """
        return self.following and self.rev >= self.target

    @property
    def applied_rev(self) -> int:
        """The revision that the kernel has."""
        return self.acks.applied_rev

    # ------------------------------------------------------------ acknowledging

    def applied(
        self,
        rev: int,
        now: float,
        *,
        report: pb.CommitReport | None = None,
        failed: Sequence[pb.ObjectFailure] = (),
        unix_nano: int = 0,
    ) -> bytes | None:
        """The kernel has everything up to `rev` of a `Changed`, apart from `failed` (all objects that fail now).

        Returns an Ack if one is due at once; otherwise `tick` returns it when it is due. The caller fills in `report`,
        except for `to_rev` and `ack_delay_ns`.
        """
        rev = self.cursor.translate(rev)
        if report is not None:
            report.to_rev = rev
        self.acks.applied(rev, now, report=report, failed=failed, unix_nano=unix_nano)
        return self.due(now)

    def due(self, now: float) -> bytes | None:
        """The Ack that is due. Only while following: before that, both sides may count revisions of other epochs."""
        return self.ack(now) if self.following and self.acks.due(now) else None

    def unsaid(self, now: float) -> list[bytes]:
        """The Ack that waits for its time, if any: sent early before a long call would delay it."""
        return [self.ack(now)] if self.following and self.acks.due_in(now) < inf else []

    def pending(self, reason: str) -> list[bytes]:
        """What to say where the kernel takes nothing of what was received, and why."""
        return [pending(self.rev, reason)] if self.following and self.rev > self.applied_rev else []

    def ack(self, now: float) -> bytes:
        """The Ack to send now."""
        self.acked_rev = self.rev
        return self.acks.make(self.rev, now)
