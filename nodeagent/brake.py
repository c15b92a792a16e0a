"""The safety brake (S7): a change that takes most Services away without announcing it waits for an operator. Pure.

Owned by the agent's session. While it holds, the node serves what it had, and takes in nothing further: what came after
the change cannot be understood without it. Every now and then the replica is asked for its whole state, so that the
hold ends by itself when the Services are back. An operator who has looked releases it: through the control plane
(InspectionService/ReleaseBrake), or on the node itself by the file `release-brake` in the state folder.

Methods return what an operator should hear of, empty where that is nothing new.
"""

from __future__ import annotations

from collections.abc import Callable

from deltaplane.v1 import delta_pb2 as pb
from nodeagent.checks import BrakeError

ADVICE = "if it is right: InspectionService/ReleaseBrake, or a file release-brake in the state folder"


class Brake:
    """`gone` of `services` Services are held; 0: nothing is. `unix_nano` is the wall clock."""

    def __init__(self, unix_nano: Callable[[], int]) -> None:
        self.gone = 0
        self.services = 0
        self.released = False  # the next state is taken whatever it removes
        self._unix_nano = unix_nano
        self._since = 0

    @property
    def holds(self) -> bool:
        return self.gone > 0

    def hold(self, error: BrakeError) -> str:
        """Holds this change."""
        if not self.holds:
            self._since = self._unix_nano()
        before = (self.gone, self.services)
        self.gone, self.services = error.gone, error.held
        if before == (error.gone, error.held):
            return ""
        return f"a change that removes {self.gone} of {self.services} Services unannounced is held; {ADVICE}"

    def message(self) -> pb.Brake:
        """What is held, as it travels."""
        return pb.Brake(services_removed=self.gone, services=self.services, since_unix_nano=self._since)

    def release(self) -> str:
        """An operator says that the change is right; nothing if none is held."""
        if not self.holds:
            return ""
        self.released = True
        return f"released by an operator: {self.gone} Services may go"

    def passed(self) -> str:
        """A state was taken in: nothing is held any more."""
        back = self.holds and not self.released
        self.gone = self.services = 0
        self.released = False
        return "the Services are back: nothing is held any more" if back else ""
