"""What happened on a stream, as values: the session returns them, and the agent acts on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

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

_DELTA = pb.WatchResponse(delta=pb.Delta()).SerializeToString()[:1]  # the tag of its field


def portions(messages: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
    """In order: deltas in a row together, which may be one commit, and each other message alone."""
    for deltas, some in groupby(messages, lambda data: data.startswith(_DELTA)):
        run = tuple(some)
        yield from (run,) if deltas else zip(run, strict=True)


def together(events: Sequence[Event]) -> list[Event]:
    """The same, with the changes that deltas made as one, which is the first: they are committed once."""
    changes = [item for item in events if isinstance(item, Changed)]
    if len(changes) < 2:
        return list(events)
    touched = Touched.union(item.touched for item in changes)
    causes = tuple(cause for item in changes for cause in item.causes)
    whole = any(item.complete for item in changes)
    others = (item for item in events if not isinstance(item, Changed))
    return [Changed(changes[-1].rev, touched, whole, causes), *others]


def braked(text: str) -> list[Event]:
    """The report of the safety brake; none for an empty text."""
    return [Report("SAFETY_BRAKE", text)] if text else []
