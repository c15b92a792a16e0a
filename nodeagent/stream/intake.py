"""What enters the mirror: a change is checked whole before any of it is taken in. Pure; owned by the session.

Checked are decoding, keys, patch bases, the digest of the state that the change leads to, and the safety brake. A
change that fails raises `MisfitError`, `BrakeError`, `RejectedError` or `deltaplane.codec.MalformedError`, and leaves
the mirror, and so the kernel, at the last good state (S12). Absence removes an object only at a SnapshotEnd whose
counts and digest match (S6); a partial snapshot removes only objects of its own buckets or leaves.
"""

from __future__ import annotations

from typing import NamedTuple

from deltaplane.codec import decode_ops
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.brake import Brake
from nodeagent.stream.cursor import Cursor
from nodeagent.stream.mirror import Mirror, Plan, Touched
from nodeagent.stream.snapshot_assembler import SnapshotAssembler
from nodeagent.stream.validation import check_digest


class Taken(NamedTuple):
    """A change that is in the mirror. `unsupported`: its ops of kinds that this agent does not know (S14)."""

    touched: Touched
    unsupported: int


class Intake:
    """The mirror's only writer. `replaying`: messages come from the journal, and the brake let them in before."""

    def __init__(self, mirror: Mirror, cursor: Cursor, brake: Brake) -> None:
        self.replaying = False
        self._mirror = mirror
        self._cursor = cursor
        self._brake = brake
        self._comparable = True  # False while the mirror lacks what this agent does not understand

    def delta(self, delta: pb.Delta) -> Taken:
        """Takes in a delta that starts at the cursor."""
        self._cursor.expect(delta)
        plan = self._mirror.prepare(decode_ops(delta.ops))
        self._comparable = self._comparable and not plan.unsupported
        if delta.HasField("digest") and self._comparable:
            check_digest(plan.digest, delta.digest)
        self._check_removals(plan, delta.announced_removals, delta.removals_to_come)
        touched = self._mirror.commit(plan)
        self._cursor.follow(delta)
        return Taken(touched, plan.unsupported)

    def snapshot(self, assembler: SnapshotAssembler, end: pb.SnapshotEnd) -> Taken:
        """Takes in a snapshot that has come to its end."""
        plan = self._mirror.prepare_replace(assembler.objects, assembler.places)
        self._comparable = not assembler.unsupported
        if self._comparable:
            check_digest(plan.digest, end.digest)
        self._check_removals(plan)
        touched = self._mirror.commit(plan)
        self._cursor.adopt(assembler.begin.epoch, end)
        return Taken(touched, assembler.unsupported)

    def compare(self, heartbeat: pb.Heartbeat) -> None:
        """The mirror must have the digest that the replica announces for the same revision (S5)."""
        if heartbeat.HasField("digest") and heartbeat.head_rev == self._cursor.rev and self._comparable:
            check_digest(self._mirror.digest.value, heartbeat.digest)

    def _check_removals(self, plan: Plan, announced: int = 0, to_come: int = 0) -> None:
        if not self.replaying:
            self._brake.check(plan, len(self._mirror.services), announced, to_come)
