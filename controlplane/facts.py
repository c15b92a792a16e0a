"""What a source reports: one fact per object, and its times. The store takes facts and knows no source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from msgspec import Struct

from deltaplane.model import Kind, Object, ObjectKey


class Fact(Struct, frozen=True, gc=False):
    """The object named by `key` now is `object`; None: it is gone, or irrelevant for a Service proxy."""

    key: ObjectKey
    object: Object | None
    resource_version: str = ""
    event_unix_nano: int = 0  # when the event reached this process; 0 for the initial list
    trigger_unix_nano: int = 0  # endpoints.kubernetes.io/last-change-trigger-time; 0: none
    deleted: bool = False  # by a DELETED event; an object that is only missing from a list may be a fault of the source
    to_come: int = 0  # Services that later portions of the same change take away, without a DELETED event
    labels: dict[str, str] | None = None  # of a Node


class Following(Struct, frozen=True):
    """How one resource is followed. `error` is empty while it is; `since_unix_nano` is when that last changed.

    `unread` counts files that changed, or cannot be read, and whose content is not used yet; with the time since when.
    """

    resource: str
    since_unix_nano: int
    error: str = ""
    version: str = ""
    unread: int = 0
    unread_since_unix_nano: int = 0


def unannounced(key: ObjectKey, held: Object | None, *, deleted: bool) -> bool:
    """Whether this takes a Service away that nobody deleted by name: the agents' safety brake counts it (S7)."""
    return held is None and not deleted and key.kind is Kind.SERVICE


class Sink(Protocol):
    """Where a source puts its facts. `controlplane.cluster.Cluster` implements it; tests use a list."""

    def update(self, facts: Iterable[Fact]) -> None:
        """Takes changes as they happen, in order."""

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        """Takes a complete list of one kind: what is not in it is gone, what is equal is no change."""

    def synced(self, kind: Kind) -> None:
        """The kind is complete for the first time (called again after a relist, without effect)."""


class Reporter(Protocol):
    """Where a source reports an object it cannot use; that object's last good state stays, the others go on."""

    def invalid(self, where: str, reason: str) -> None:
        """`where` names the object (and file and document, for manifests); `reason` has the field path."""

    def valid(self, where: str) -> None:
        """The problem of `where` is solved, or its object is gone."""


@runtime_checkable
class Remembering(Protocol):
    """What a reporter may be besides: one that knows what it was told last."""

    def reason(self, where: str) -> str:
        """Why the object at this place cannot be used; empty: it can, or nothing is known of it."""

    def known(self) -> Iterator[tuple[str, str]]:
        """All of them: place and reason."""
