"""What a change must pass before it enters the mirror, apart from being well formed. Pure; called by the session."""

from __future__ import annotations

from deltaplane.model import Kind, ServiceName
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.mirror import Plan

BRAKE_SERVICES = 10  # a change removing at least so many Services, and more than half of them, is to be announced


class MisfitError(Exception):
    """Something that does not fit what is held; answered by a ResyncRequest."""

    def __init__(self, reason: pb.ResyncReason.ValueType, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class BrakeError(Exception):
    """A change that removes `gone` of `held` Services unannounced: held, not refused. `missing`: of one message."""

    def __init__(self, gone: int, held: int, missing: frozenset[ServiceName] = frozenset()) -> None:
        super().__init__(f"safety brake: the change removes {gone} of {held} Services unannounced")
        self.gone = gone
        self.held = held
        self.missing = missing


def check_digest(own: int, replica: int) -> None:
    """The digest of this agent's state, or of the one that a change leads to, must be the replica's (S5, S6).

    Raises `MisfitError`.
    """
    if own != replica:
        detail = f"the state would have digest {own:016x}, the replica's has {replica:016x}"
        raise MisfitError(pb.RESYNC_REASON_DIGEST_MISMATCH, detail)


def check_removals(plan: Plan, held: int, announced: int = 0, to_come: int = 0) -> None:
    """Most of a cluster's Services do not go away unannounced, be it in one delta, in several or in a snapshot (S7).

    `held` is the number of Services before the change; `announced`, how many of those that go were deleted by name;
    `to_come`, how many more the replica takes away in later deltas. Raises `BrakeError`.
    """
    gone = min(held, plan.services_removed - announced + to_come)
    if most(gone, held):
        removed = (item.key for item in plan.edits if item.new is None and item.key.kind is Kind.SERVICE)
        raise BrakeError(gone, held, frozenset((key.namespace, key.name) for key in removed))


def most(gone: int, held: int) -> bool:
    """Whether that is too much of what a node has to go unannounced."""
    return gone >= BRAKE_SERVICES and gone * 2 > held
