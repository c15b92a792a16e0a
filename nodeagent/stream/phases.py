"""The phases of the agent's side of a stream, as data: what may happen in each, and which phase follows.

The session moves by this table alone. proto/README.md shows it as a diagram (`make diagrams`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Phase(Enum):
    """Where a stream stands. The values are the diagram's names."""

    DISCONNECTED = "disconnected"
    GREETING = "awaiting Welcome"
    FOLLOWING = "following"
    AWAITING = "awaiting snapshot"
    COLLECTING = "receiving snapshot"


class Step(Enum):
    """What happens to a stream. The values are the diagram's words; `MESSAGES` says which are messages."""

    REPLAY = "journal is replayed"
    CONNECT = "stream opens, Hello"
    RESUMED = "Welcome with DELTA"
    LACKING = "Welcome with SNAPSHOT"
    DELTA = "Delta"
    HEARTBEAT = "Heartbeat"
    BEGIN = "SnapshotBegin"
    CHUNK = "SnapshotChunk"
    END = "SnapshotEnd"
    ASKED = "DigestRequest"
    MISFIT = "ResyncRequest"
    HELD = "the safety brake holds a change"
    CLOSE = "stream ends"


MESSAGES = {
    "delta": Step.DELTA,
    "heartbeat": Step.HEARTBEAT,
    "snapshot_begin": Step.BEGIN,
    "snapshot_chunk": Step.CHUNK,
    "snapshot_end": Step.END,
    "digest_request": Step.ASKED,
}
"""WatchResponse's messages that depend on the phase, Welcome apart. One that its phase does not list does not fit."""

_UNFIT = {Step.MISFIT: Phase.AWAITING, Step.HELD: Phase.AWAITING}
_CLOSE = {Step.CLOSE: Phase.DISCONNECTED}

TRANSITIONS: Mapping[Phase, Mapping[Step, Phase]] = {
    Phase.DISCONNECTED: {Step.CONNECT: Phase.GREETING, Step.REPLAY: Phase.AWAITING, **_CLOSE},
    Phase.GREETING: {Step.RESUMED: Phase.FOLLOWING, Step.LACKING: Phase.AWAITING, **_CLOSE},
    Phase.FOLLOWING: {
        Step.DELTA: Phase.FOLLOWING,
        Step.HEARTBEAT: Phase.FOLLOWING,
        Step.BEGIN: Phase.COLLECTING,
        Step.CHUNK: Phase.FOLLOWING,  # ignored, as is an end without a beginning
        Step.END: Phase.FOLLOWING,
        Step.ASKED: Phase.FOLLOWING,
        **_UNFIT,
        **_CLOSE,
    },
    Phase.AWAITING: {
        Step.DELTA: Phase.AWAITING,  # not taken in: the replica sent it before it read the ResyncRequest
        Step.HEARTBEAT: Phase.AWAITING,
        Step.BEGIN: Phase.COLLECTING,
        Step.CHUNK: Phase.AWAITING,  # ignored: the rest of a snapshot that did not fit
        Step.END: Phase.AWAITING,
        Step.ASKED: Phase.AWAITING,
        Step.MISFIT: Phase.AWAITING,
        **_CLOSE,
    },
    Phase.COLLECTING: {
        Step.BEGIN: Phase.COLLECTING,
        Step.CHUNK: Phase.COLLECTING,
        Step.END: Phase.FOLLOWING,
        Step.ASKED: Phase.AWAITING,  # the rest does not come: the replica has read a ResyncRequest
        **_UNFIT,
        **_CLOSE,
    },
}
