"""What a session says happened on its stream: values between the protocol and the server, which acts on them."""

from __future__ import annotations

from msgspec import Struct

from controlplane.inflight import Applied


class Introduced(Struct, frozen=True):
    """An agent introduces itself: this is the newest stream of its node (S15)."""


class AskedAgain(Struct, frozen=True):
    """An agent asks for its state again. `reason` is a metric's label."""

    reason: str


Event = Introduced | AskedAgain | Applied
