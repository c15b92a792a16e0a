"""Where a stream starts: checks a Hello and an Ack, and decides how an agent resumes. Pure; called by the session."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from controlplane.log import Log
from controlplane.partial import most_of
from controlplane.store import MAX_VERSION_DIGITS, Store, newer
from deltaplane.digest import BUCKET, BUCKETS, differing, packed
from deltaplane.names import is_subdomain, shown
from deltaplane.snapshot import ON_REQUEST, PARTIAL
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2

PROTOCOL = 1
_LONGEST = {  # characters
    "node_uid": 253,
    "boot_id": 253,
    "agent_instance": 253,
    "agent_version": 253,
    "scope": 253,
    "proxy_mode": 63,
    "proxy_mode_asked": 63,
    "proxy_mode_reason": 1024,
}
MAX_COMMITS = 16  # per Ack
MAX_FAILURES = 4096  # per Ack; agents send as many as fit into their limit of an Ack
MAX_REQUEST_BYTES = 64 * 1024  # any message of an agent; looked at before it is decoded
MAX_HELLO_BYTES = 32 * 1024  # it is kept while the stream lasts; agents send 3 KiB at most
MAX_FAILURE_TEXT = 4096  # characters; agents send 300
MAX_MESSAGE_BYTES = 1024 * 1024  # that a replica sends: one object has at most `store.MAX_OBJECT_BYTES`
_CODES, _KINDS = frozenset(pb.ErrorCode.values()), frozenset(objects_pb2.Kind.values())


class Start(Struct, frozen=True):
    """The decision for the Welcome, and the revision from which the stream continues."""

    decision: pb.ResumeDecision.ValueType
    rev: int
    reason: str


def problem(hello: pb.Hello) -> tuple[str, str] | None:
    """Why the replica refuses this Hello: a gRPC status name and a line for the operator. None: it does not."""
    if not is_subdomain(hello.node_name):
        return "INVALID_ARGUMENT", f"Hello.node_name: {shown(hello.node_name)} is not a DNS-1123 subdomain"
    if hello.ByteSize() > MAX_HELLO_BYTES:
        return "INVALID_ARGUMENT", f"Hello: {hello.ByteSize()} bytes; the limit is {MAX_HELLO_BYTES}"
    for field, most in _LONGEST.items():
        if len(getattr(hello, field)) > most:
            return "INVALID_ARGUMENT", f"Hello.{field}: longer than {most} characters"
    if any(len(item.version) > MAX_VERSION_DIGITS for item in hello.resume.versions):
        return "INVALID_ARGUMENT", f"Hello.resume.versions: one is longer than {MAX_VERSION_DIGITS} characters"
    if 0 < hello.max_message_bytes < MAX_MESSAGE_BYTES:
        text = f"Hello.max_message_bytes: {hello.max_message_bytes}: messages have up to {MAX_MESSAGE_BYTES} bytes"
        return "FAILED_PRECONDITION", text
    if not hello.protocol_min <= PROTOCOL <= hello.protocol_max:
        spoken = f"{hello.protocol_min} to {hello.protocol_max}"
        text = f"the agent speaks protocol {spoken}, this replica {PROTOCOL}: upgrade the older"
        return "FAILED_PRECONDITION", text
    return None


def ack_problem(ack: pb.Ack, sent_rev: int) -> tuple[str, str] | None:
    """Why the replica refuses this Ack: a gRPC status name and a line that names the field. None: it does not."""
    if len(ack.commits) > MAX_COMMITS:
        return "INVALID_ARGUMENT", f"Ack has {len(ack.commits)} commits, and {MAX_COMMITS} is the limit"
    if len(ack.failed) > MAX_FAILURES:
        return "INVALID_ARGUMENT", f"Ack.failed: {len(ack.failed)} failures, and {MAX_FAILURES} is the limit"
    for failure in ack.failed:
        if failure.code not in _CODES or len(failure.text) > MAX_FAILURE_TEXT:
            return "INVALID_ARGUMENT", f"Ack.failed: code {failure.code} or a text of {len(failure.text)} characters"
        if failure.key.kind not in _KINDS or not failure.key.name:
            return "INVALID_ARGUMENT", f"Ack.failed.key: kind {failure.key.kind} or an empty name"
    if max(ack.applied_rev, ack.received_rev) > sent_rev:
        return "INVALID_ARGUMENT", f"Ack for revision {ack.received_rev}, but {sent_rev} was the last sent"
    return None


def pending_problem(pending: pb.Pending, sent_rev: int) -> tuple[str, str] | None:
    """Likewise of a Pending."""
    if pending.received_rev > sent_rev:
        return "INVALID_ARGUMENT", f"Pending.received_rev: {pending.received_rev}, but {sent_rev} was the last sent"
    if len(pending.text) > MAX_FAILURE_TEXT:
        return "INVALID_ARGUMENT", f"Pending.text: {len(pending.text)} characters, and {MAX_FAILURE_TEXT} is the limit"
    return None


def reason_of(request: pb.ResyncRequest) -> str:
    """The reason of a ResyncRequest as a metric's label: a known name, or UNKNOWN."""
    known = request.reason in pb.ResyncReason.values()
    return pb.ResyncReason.Name(request.reason).removeprefix("RESYNC_REASON_") if known else "UNKNOWN"


def behind(resume: pb.Resume, store: Store, log: Log) -> bool:
    """Whether the agent has seen API versions that this replica has not."""
    if resume.epoch == log.epoch:
        return False
    held = {int(kind): version for kind, version in store.versions.items()}
    return any(item.kind in held and newer(item.version, held[item.kind]) for item in resume.versions)


def held(hello: pb.Hello, digests: Sequence[int]) -> bytes:
    """The agent's bucket digests, `packed`, if it takes partial snapshots and sent all; else empty."""
    return packed(digests, BUCKET) if PARTIAL in hello.capabilities and len(digests) == BUCKETS else b""


def answers(hello: pb.Hello) -> bool:
    """Whether this agent can be asked for digests."""
    return {PARTIAL, ON_REQUEST} <= set(hello.capabilities)


def decide(hello: pb.Hello, store: Store, log: Log) -> Start:
    """How an agent resumes: by a delta, by nothing if the states are equal, by some buckets, or by everything."""
    resume = hello.resume
    rev, same_epoch = resume.applied_rev, resume.epoch == log.epoch
    known = log.digest_at(rev) if same_epoch else None
    if same_epoch and log.holds(rev) and known in {None, resume.state_digest}:
        return Start(pb.RESUME_DECISION_DELTA, rev, f"revision {rev} is in the log")
    if resume.epoch and resume.state_digest == store.digest.value:
        return Start(pb.RESUME_DECISION_DELTA, log.head, "the states are equal")
    if not resume.epoch:
        return Start(pb.RESUME_DECISION_SNAPSHOT, 0, "first contact")
    why = f"revision {rev} cannot be brought up by deltas" if same_epoch else "another epoch, and the states differ"
    decision, extent = _extent(hello, store)
    return Start(decision, min(rev, log.head) if same_epoch else 0, f"{why}{extent}")


def _extent(hello: pb.Hello, store: Store) -> tuple[pb.ResumeDecision.ValueType, str]:
    """The decision between what differs and everything, and a remark for the Welcome's reason."""
    digests, asked = held(hello, hello.resume.bucket_digests), answers(hello)
    if not digests:
        return (pb.RESUME_DECISION_BUCKETS, "") if asked else (pb.RESUME_DECISION_SNAPSHOT, "")
    number = len(differing(digests, store.digest.at(BUCKET)))
    some = asked or number <= most_of(BUCKET)
    decision = pb.RESUME_DECISION_BUCKETS if some else pb.RESUME_DECISION_SNAPSHOT
    return decision, f" in {number} of {BUCKETS} buckets"
