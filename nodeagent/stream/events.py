"""What the agent's session says happened: values between the protocol and whoever acts on it."""

from __future__ import annotations

from msgspec import Struct

from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.mirror import Touched


class Changed(Struct, frozen=True):
    """The mirror is at `rev` now; `touched` may look different. `complete`: it came from a whole state."""

    rev: int
    touched: Touched
    complete: bool
    causes: tuple[pb.Cause, ...] = ()


class Send(Struct, frozen=True):
    """A serialised WatchRequest for the stream."""

    message: bytes


class Record(Struct, frozen=True):
    """Messages for the journal; `whole`: they are a new beginning."""

    messages: tuple[bytes, ...]
    whole: bool


class Report(Struct, frozen=True):
    """Something the operator should know; `code` is a name of deltaplane.v1.ErrorCode without its prefix."""

    code: str
    text: str


Event = Changed | Send | Record | Report


def braked(text: str) -> list[Event]:
    """What the safety brake has to say, if anything."""
    return [Report("SAFETY_BRAKE", text)] if text else []
