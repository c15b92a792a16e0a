"""The events that a session returns: the protocol reports them, and the server acts on them."""

from __future__ import annotations

from msgspec import Struct

from controlplane.inflight import Applied
from deltaplane.v1 import delta_pb2 as pb


class Introduced(Struct, frozen=True):
    """An agent has sent its Hello: this is the newest stream of its node (S15)."""


class AskedAgain(Struct, frozen=True):
    """An agent has sent a ResyncRequest. `reason` is a metric's label."""

    reason: str


class Braked(Struct, frozen=True):
    """The safety brake of an agent holds a change; before, it held none (S7)."""

    brake: pb.Brake


class BroughtUp(Struct, frozen=True):
    """It is decided how an agent's state is brought up. `reason` and `extent` are a metric's labels."""

    reason: str
    extent: str
    detail: str
    size: int = 0  # bytes of the snapshot; 0 without one

    def __str__(self) -> str:
        return f"{self.reason}: {self.extent}, {self.detail}"


class Held(Struct, frozen=True):
    """The Welcome waited because this replica was behind what the agent has seen; False: it still is."""

    caught_up: bool


Event = Introduced | AskedAgain | Applied | Braked | BroughtUp | Held
