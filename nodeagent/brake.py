"""The safety brake (S7): a change that takes most Services away without announcing it waits for an operator.

Owned by the agent's session. While it holds, the node serves what it had, and takes in nothing further: what came after
the change cannot be understood without it. Every now and then the replica is asked for its whole state, so that the
hold ends by itself when the Services are back. An operator who has looked releases it: through the control plane
(InspectionService/ReleaseBrake), or on the node itself by the file `release-brake` in the state folder.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from deltaplane.logs import event
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.checks import BrakeError

log = logging.getLogger(__name__)


class Brake:
    """`gone` of `services` Services are held; 0: nothing is."""

    def __init__(self) -> None:
        self.gone = 0
        self.services = 0
        self.released = False  # the next state is taken whatever it removes
        self._since_unix_nano = 0

    @property
    def holds(self) -> bool:
        return self.gone > 0

    def hold(self, error: BrakeError) -> pb.Brake:
        """Holds this change; gives what to tell the replica."""
        if not self.holds:
            self._since_unix_nano = time.time_ns()
        if (self.gone, self.services) != (error.gone, error.held):
            event(
                log, logging.ERROR, "safety brake: a change is held, and the node serves what it had",
                services_removed=error.gone, services=error.held,
                advice="if that is right: InspectionService/ReleaseBrake, or a file release-brake in the state folder",
            )  # fmt: skip
        self.gone, self.services = error.gone, error.held
        return self.message()

    def message(self) -> pb.Brake:
        """What is held, as it travels."""
        return pb.Brake(services_removed=self.gone, services=self.services, since_unix_nano=self._since_unix_nano)

    def release(self) -> bool:
        """An operator says that the change is right; False: nothing is held."""
        if self.holds:
            self.released = True
            event(log, logging.WARNING, "safety brake: released by an operator", services_removed=self.gone)
        return self.holds

    def passed(self) -> None:
        """A state was taken in: nothing is held any more."""
        if self.holds and not self.released:
            event(log, logging.INFO, "safety brake: the Services are back; nothing is held any more")
        self.gone = self.services = 0
        self.released = False


def taken(file: Path | None) -> bool:
    """Whether an operator has made the file that releases the brake of this node; it is taken away."""
    if file is None:
        return False
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        event(log, logging.WARNING, "cannot take the file away", file=file, error=error.strerror)
        return False
    return True
