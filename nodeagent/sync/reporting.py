"""What the agent says of its commits and of objects that fail, as it travels in an Ack. Called by the agent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from deltaplane import moments
from deltaplane.logs import event
from deltaplane.model import ObjectKey
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2
from nodeagent.dataplane.outcome import Commit, Failed

log = logging.getLogger(__name__)

Times = tuple[int, int]  # perf_counter nanoseconds: the message's arrival, and the start of resolve


def report_of(times: Times, resolved: int, ended: int, done: Commit) -> pb.CommitReport:
    """`resolved` and `ended`: when resolve and the commit ended. The session adds the revision and the Ack's delay."""
    arrived, started = times
    return pb.CommitReport(
        queued_ns=started - arrived,
        resolve_ns=resolved - started,
        commit_ns=ended - resolved,
        kernel_messages=done.messages,
        kernel_elements=done.elements,
        kernel_bytes=done.size,
    )


def tell_whole(rev: int, services: int, report: pb.CommitReport) -> None:
    """Says that the kernel was compared with the whole state."""
    milliseconds = (report.resolve_ns + report.commit_ns) // 1_000_000
    event(
        log, logging.INFO, "kernel has the whole state", rev=rev, services=services, elements=report.kernel_elements,
        milliseconds=milliseconds,
    )  # fmt: skip


def to_messages(
    failures: Iterable[Failed], hash_of: Callable[[ObjectKey], int], unix_nano: int, retry_in: float
) -> list[pb.ObjectFailure]:
    """Objects that are not in the kernel as they should be, for an Ack; they are tried again in `retry_in` seconds."""
    retry_at = moments.after(unix_nano, retry_in)
    return [_to_message(failed, hash_of(failed.key), retry_at) for failed in failures]


def _to_message(failed: Failed, object_hash: int, retry_unix_nano: int) -> pb.ObjectFailure:
    """An object that is not in the kernel as it should be."""
    kind, namespace, name = failed.key
    key = objects_pb2.ObjectKey(kind=objects_pb2.Kind.ValueType(kind), namespace=namespace, name=name)
    code = pb.ErrorCode.Value(f"ERROR_CODE_{failed.code}")
    return pb.ObjectFailure(
        key=key, object_hash=object_hash, code=code, text=failed.text, retry_unix_nano=retry_unix_nano
    )
