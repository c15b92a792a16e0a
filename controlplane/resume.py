"""Where a stream starts: what is wrong with a Hello, and the rung of the resume ladder an agent stands on.

Pure; called by the session when an agent introduces itself.
"""

from __future__ import annotations

from msgspec import Struct

from controlplane.log import Log
from controlplane.store import Store
from deltaplane.model import Kind
from deltaplane.v1 import delta_pb2 as pb

PROTOCOL = 1
KINDS = frozenset(int(kind) for kind in Kind)


class Start(Struct, frozen=True):
    """The decision for the Welcome, and the revision the stream goes on from."""

    decision: pb.ResumeDecision.ValueType
    rev: int
    reason: str


def problem(hello: pb.Hello) -> tuple[str, str] | None:
    """Why this agent cannot be served: a gRPC status name and a line for the operator."""
    if not hello.node_name:
        return "INVALID_ARGUMENT", "Hello has no node_name"
    if not hello.protocol_min <= PROTOCOL <= hello.protocol_max:
        spoken = f"{hello.protocol_min} to {hello.protocol_max}"
        text = f"the agent speaks protocol {spoken}, this replica {PROTOCOL}: upgrade the older"
        return "FAILED_PRECONDITION", text
    return None


def behind(resume: pb.Resume, store: Store, log: Log) -> bool:
    """Whether the agent has seen API versions this replica has not."""
    if resume.epoch == log.epoch:
        return False
    return any(item.kind in KINDS and store.lacks(Kind(item.kind), item.version) for item in resume.versions)


def decide(resume: pb.Resume, store: Store, log: Log) -> Start:
    """The resume ladder: a delta from the agent's revision, nothing for an equal state, else a whole snapshot."""
    rev, same_epoch = resume.applied_rev, resume.epoch == log.epoch
    known = log.digest_at(rev) if same_epoch else None
    if same_epoch and log.holds(rev) and known in {None, resume.state_digest}:
        return Start(pb.RESUME_DECISION_DELTA, rev, f"revision {rev} is in the log")
    if resume.epoch and resume.state_digest == store.digest.value:
        return Start(pb.RESUME_DECISION_DELTA, log.head, "the states are equal")
    if not resume.epoch:
        return Start(pb.RESUME_DECISION_SNAPSHOT, 0, "first contact")
    if not same_epoch:
        return Start(pb.RESUME_DECISION_SNAPSHOT, 0, "another epoch, and the states differ")
    reason = f"revision {rev} cannot be brought up by deltas"
    return Start(pb.RESUME_DECISION_SNAPSHOT, min(rev, log.head), reason)
