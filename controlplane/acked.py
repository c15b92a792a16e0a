"""The state that an agent's Acks report: what its kernel has, which objects fail, and what its safety brake holds."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from deltaplane.v1 import delta_pb2 as pb


class Pending(Struct, frozen=True):
    """What the agent has received and its kernel does not have yet. `text`: why the kernel takes nothing; empty: the
    commit runs. `since`: when it first said so, monotonic seconds."""

    rev: int
    text: str
    since: float


class Acked(Struct, frozen=True):
    """The sum of one stream's Acks. Immutable: `after` returns the next value."""

    received_rev: int = 0
    applied_rev: int = 0
    confirmed: bool = False  # whether an Ack has confirmed the state that the stream builds on
    failed: tuple[pb.ObjectFailure, ...] = ()
    more_failed: int = 0
    unsupported_ops: int = 0
    brake: pb.Brake | None = None  # what the agent's safety brake holds
    pending: Pending | None = None  # of a revision beyond `applied_rev`; until the next Ack

    def after(self, ack: pb.Ack) -> Acked:
        """The value after one more Ack, which ends what was pending. Revisions never decrease. An Ack with a brake
        reports nothing else."""
        if ack.HasField("brake"):
            return replace(self, brake=ack.brake)
        return Acked(
            received_rev=max(self.received_rev, ack.received_rev),
            applied_rev=max(self.applied_rev, ack.applied_rev),
            confirmed=self.confirmed or ack.applied_rev > 0 or ack.received_rev > 0,
            failed=tuple(ack.failed),
            more_failed=ack.more_failed,
            unsupported_ops=ack.unsupported_ops,
        )

    def waiting(self, said: pb.Pending, now: float) -> Acked:
        """The value after the agent has said that its kernel does not have this yet, unless it has it by now."""
        if said.received_rev <= self.applied_rev:
            return replace(self, pending=None)
        since = now if self.pending is None else self.pending.since
        return replace(self, pending=Pending(said.received_rev, said.text, since))
