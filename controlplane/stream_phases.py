"""The phases of one agent's stream as data: which steps each phase allows, and which phase follows.

The session changes its phase by this table only. A message that the table does not list for the phase is a protocol
error of the agent; any other step that is not listed is an error of this program. proto/README.md shows the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from deltaplane.states import Machine


class Phase(Enum):
    """The phases of a stream. The diagram shows the values."""

    GREETING = "awaiting Hello"
    HOLDING = "holding"  # until this replica has seen what the agent has seen; for a limited time
    DUE = "snapshot due"
    ASKING = "awaiting digests"
    BUILDING = "snapshot being built"
    SENDING = "sending snapshot"
    FOLLOWING = "following"
    CLOSED = "closed"

    __hash__ = object.__hash__  # members are themselves; Enum's own hashes the name, in Python


class Step(Enum):
    """What can happen on a stream. The first six are the agent's messages. The diagram shows the values."""

    HELLO = "Hello"
    ACK = "Ack"
    PENDING = "Pending"
    RESYNC = "ResyncRequest"
    DRAIN = "Drain"
    DIGESTS = "Digests"
    RESUMED = "Welcome, deltas lead on"
    LACKING = "Welcome, a snapshot is needed"
    LEFT_BEHIND = "the log has let go of what comes next"
    ASKED = "DigestRequest"
    UNANSWERED = "no answer in time"
    AWAITED = "not there yet"
    BEGUN = "SnapshotBegin"
    ENDED = "SnapshotEnd"
    CLOSE = "close"

    __hash__ = object.__hash__


Position = Machine[Phase, Step]
_ENDS = {Step.DRAIN: Phase.CLOSED, Step.CLOSE: Phase.CLOSED}

TRANSITIONS: Mapping[Phase, Mapping[Step, Phase]] = {
    Phase.GREETING: {Step.HELLO: Phase.HOLDING, Step.CLOSE: Phase.CLOSED},
    Phase.HOLDING: {
        Step.ACK: Phase.HOLDING,
        Step.RESYNC: Phase.HOLDING,  # the snapshot follows the Welcome
        Step.RESUMED: Phase.FOLLOWING,
        Step.LACKING: Phase.DUE,
        **_ENDS,
    },
    Phase.DUE: {
        Step.ACK: Phase.DUE,
        Step.PENDING: Phase.DUE,
        Step.RESYNC: Phase.DUE,
        Step.ASKED: Phase.ASKING,
        Step.AWAITED: Phase.BUILDING,
        Step.BEGUN: Phase.SENDING,
        **_ENDS,
    },
    Phase.ASKING: {
        Step.ACK: Phase.ASKING,
        Step.PENDING: Phase.ASKING,
        Step.DIGESTS: Phase.DUE,  # to ask once more, or to send
        Step.UNANSWERED: Phase.DUE,
        Step.RESYNC: Phase.DUE,
        **_ENDS,
    },
    Phase.BUILDING: {
        Step.ACK: Phase.BUILDING,
        Step.PENDING: Phase.BUILDING,
        Step.RESYNC: Phase.DUE,
        Step.AWAITED: Phase.BUILDING,
        Step.BEGUN: Phase.SENDING,
        **_ENDS,
    },
    Phase.SENDING: {
        Step.ACK: Phase.SENDING,
        Step.PENDING: Phase.SENDING,
        Step.RESYNC: Phase.DUE,
        Step.ENDED: Phase.FOLLOWING,
        **_ENDS,
    },
    Phase.FOLLOWING: {
        Step.ACK: Phase.FOLLOWING,
        Step.PENDING: Phase.FOLLOWING,
        Step.RESYNC: Phase.DUE,
        Step.LEFT_BEHIND: Phase.DUE,
        **_ENDS,
    },
    Phase.CLOSED: {},
}
WELCOMED = frozenset({Phase.DUE, Phase.ASKING, Phase.BUILDING, Phase.SENDING, Phase.FOLLOWING})
LACKING = WELCOMED - {Phase.FOLLOWING}  # the agent waits for a snapshot
