"""What a source says: a fact about one object, and why it is said now. The store takes facts and knows no source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from deltaplane.model import Kind, Object, ObjectKey


class Fact(Struct, frozen=True, gc=False):
    """The object named by `key` now is `object`; None: it is gone (or no concern of a Service proxy)."""

    key: ObjectKey
    object: Object | None
    resource_version: str = ""
    event_unix_nano: int = 0  # when the event reached this process; 0 for the initial list
    trigger_unix_nano: int = 0  # endpoints.kubernetes.io/last-change-trigger-time; 0: none
    deleted: bool = False  # somebody deleted it by name; where it is only lacking, that may be a fault of the source


class Following(Struct, frozen=True):
    """How one resource is followed. `error` is empty while it is; `since_unix_nano`: since when it is, or is not.

    `unread`: files that changed, or cannot be read, and are not taken in as they are; with the time since when.
    """

    resource: str
    since_unix_nano: int
    error: str = ""
    version: str = ""
    unread: int = 0
    unread_since_unix_nano: int = 0


class Sink(Protocol):
    """Where a source puts what it learns. `controlplane.cluster.Cluster` is one; tests have a list."""

    def update(self, facts: Iterable[Fact]) -> None:
        """Takes changes as they happen, in order."""

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        """Takes a complete list of one kind: what it lacks is gone, what is equal is no change (relist and diff)."""

    def synced(self, kind: Kind) -> None:
        """The kind is complete for the first time (called again after a relist, without effect)."""


class Reporter(Protocol):
    """Where a source reports an object it cannot use; that object's last good state stays, the others go on."""

    def invalid(self, where: str, reason: str) -> None:
        """`where` names the object (and file and document, for manifests); `reason` has the field path."""

    def valid(self, where: str) -> None:
        """What was reported for `where` is mended or gone."""
