"""How this node's kernel relates to the mirror, as data: what may happen in each phase, and which phase follows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Phase(Enum):
    """The values are the words of a diagram."""

    ADOPTED = "as found at the start"  # deltas are not committed; nothing that was found is removed
    IN_STEP = "in step"  # it has the mirror's state, or what differs is pending: deltas are committed
    DOUBTFUL = "to be compared"  # it had a whole state, and is to be compared with the next one


class Step(Enum):
    """What happens."""

    COMPARED = "commit of the whole state"
    DOUBT = "whole state arrives, or a fault"


TRANSITIONS: Mapping[Phase, Mapping[Step, Phase]] = {
    Phase.ADOPTED: {Step.COMPARED: Phase.IN_STEP, Step.DOUBT: Phase.ADOPTED},
    Phase.IN_STEP: {Step.COMPARED: Phase.IN_STEP, Step.DOUBT: Phase.DOUBTFUL},
    Phase.DOUBTFUL: {Step.COMPARED: Phase.IN_STEP, Step.DOUBT: Phase.DOUBTFUL},
}
