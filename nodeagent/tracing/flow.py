"""The one flow that is traced, and what was seen of it. Values only."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from deltaplane.model import family_of


class Flow(NamedTuple):
    """From whom to where; addresses are packed, `protocol` is IANA's number."""

    source: bytes
    address: bytes
    port: int
    protocol: int

    @property
    def family(self) -> int:
        return family_of(self.address)


class Step(NamedTuple):
    """One rule that the packet met, or the end of a base chain. `handle`: the rule's number; 0: it is the policy."""

    packet: int  # the kernel's number for the packet
    table: str  # with its family, such as "ip deltaplane"
    chain: str
    handle: int
    verdict: str


class Translated(NamedTuple):
    """What the kernel made of the connection: who answers, and whom it sees. Addresses are packed."""

    endpoint: bytes
    port: int
    seen: bytes


class Destination(NamedTuple):
    """Where a traced packet is going at that point. The address is packed."""

    packet: int
    address: bytes
    port: int


class Shown(Struct, frozen=True):
    """A step for people."""

    table: str
    chain: str
    rule: str
    verdict: str


class Traced(Struct, frozen=True):
    """What was seen. `sent`: what became of the packet that was sent here; empty: none was, it was waited for.

    `steps`: the way of the first packet. `dropped`: the rule or policy that it ended at; `answer_dropped`: that one of
    the answers ended at. `endpoint` and `seen`: as ADDRESS:PORT and ADDRESS, empty where the connection was not
    translated or not made; where the first packet was dropped, they are a later one's. `dropped_to`: where the first
    packet was going when it was dropped, as ADDRESS:PORT; empty where none was, or the kernel did not say.
    """

    packets: int
    steps: tuple[Shown, ...] = ()
    sent: str = ""
    endpoint: str = ""
    seen: str = ""
    dropped: Shown | None = None
    dropped_to: str = ""
    answer_dropped: Shown | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
