"""`deltaplane watch --commits`: each commit in a node's kernel, in a line. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from deltaplane.v1 import delta_pb2, inspection_pb2
from operatorcli.text import clock, count, key, nanoseconds

SHOWN = 3  # causes in a line


def line(response: inspection_pb2.TailCommitsResponse) -> str:
    """When, where, what, and how long it took from the API event to the kernel."""
    if response.HasField("missing"):
        lost = response.missing
        return f"-  the replica {lost.address} is missing from here on: {lost.error}"
    commit = response.commit
    moment = clock(_moment(response)) if response.causes else "-"
    took = (
        f"in the kernel {nanoseconds(response.event_to_commit_ns)} after the event"
        if response.event_to_commit_ns
        else "applied"
    )
    parts = (
        moment,
        response.node_name,
        f"rev {commit.to_rev}",
        f"{took} (commit {nanoseconds(commit.commit_ns)}, {count(commit.kernel_messages, 'kernel message')}):",
        causes(response.causes) + (" - AN OBJECT FAILS THERE" if response.failed else ""),
    )
    return "  ".join(parts)


def _moment(response: inspection_pb2.TailCommitsResponse) -> int:
    oldest = min(cause.event_unix_nano for cause in response.causes)
    return oldest + int(response.event_to_commit_ns)


def causes(all_of_them: Iterable[delta_pb2.Cause]) -> str:
    """`svc/shop/web@123, svc/shop/db@124 and 2 more`."""
    found = [
        f"{key(cause.object)}{'@' if cause.resource_version else ''}{cause.resource_version}" for cause in all_of_them
    ]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more or "no cause is known"
