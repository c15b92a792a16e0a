"""A question about a connection, and its answer. Values only."""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from deltaplane.forwarding import Entry, Target
from deltaplane.model import Endpoint, ObjectKey, family_of


class Question(Struct, frozen=True):
    """A new connection from `source` to `address` and `port`; addresses are packed, of one family."""

    source: bytes
    address: bytes
    port: int
    protocol: int  # IANA's number

    @property
    def family(self) -> int:
        return family_of(self.address)


class Fate(IntEnum):
    """Numbered as on the wire (`deltaplane.v1.Fate`)."""

    REACHES = 1
    REFUSED = 2
    DROPPED = 3
    NOT_SERVED = 4


class Decision(Struct, frozen=True):
    """One step: what is decided, what was found, and why, for a person."""

    what: str
    found: str
    why: str = ""


class Choice(Struct, frozen=True):
    """An endpoint that the connection may reach. `endpoint`: its facts, where they are known."""

    target: Target
    probability: float
    masqueraded: bool
    endpoint: Endpoint | None = None


class Near(Struct, frozen=True):
    """A Service that the client may have meant. `frontend`: what of it is near, as text."""

    service: ObjectKey
    frontend: str
    why: str


class Answer(Struct, frozen=True):
    """`service` and `entry`: whose the address and port is; None where it is nobody's."""

    fate: Fate
    decisions: tuple[Decision, ...]
    choices: tuple[Choice, ...] = ()
    service: ObjectKey | None = None
    entry: Entry | None = None
    near: tuple[Near, ...] = ()
