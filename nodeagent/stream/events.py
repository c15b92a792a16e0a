"""What happened on a stream, as values: the session returns them, and the agent acts on them."""

from __future__ import annotations

from msgspec import Struct

from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.mirror import Touched


class Changed(Struct, frozen=True):
    """The mirror is at `rev` now; `touched` may have changed. `complete`: by a whole state."""

    rev: int
    touched: Touched
    complete: bool
    causes: tuple[pb.Cause, ...] = ()


class Send(Struct, frozen=True):
    """A serialised WatchRequest for the stream."""

    message: bytes


class Record(Struct, frozen=True):
    """Messages for the journal. `whole`: they replace what the journal has."""

    messages: tuple[bytes, ...]
    whole: bool


class Report(Struct, frozen=True):
    """Something the operator should know; `code` is a name of deltaplane.v1.ErrorCode without its prefix, or one of
    SAFETY_BRAKE and ANOTHER_CLUSTER."""

    code: str
    text: str


Event = Changed | Send | Record | Report


def braked(text: str) -> list[Event]:
    """The report of the safety brake; none for an empty text."""
    return [Report("SAFETY_BRAKE", text)] if text else []
