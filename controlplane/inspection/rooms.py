"""How many may wait at once: questions of operators, and those of agents for Pods that end, each in a room of its own.

So Pods that end by the thousand take no room from a person who asks, and the other way round. Of an agent's host as
many fit as an agent asks at once, with some to spare; the rest is for other hosts. A peer asks for all of its agents.
Pure.
"""

from __future__ import annotations

from deltaplane.shares import Shares
from deltaplane.v1 import inspection_pb2 as pb

WAITERS = 256  # questions of operators at once; one address has half of them at most
REMOVALS = 2048  # questions whether an address is gone
OF_ONE_HOST = 64  # of these, but for a peer


class TooManyWaiters(Exception):
    """This caller may not wait now; the text says why."""


class Room:
    """So many places. `of_one`: how many one caller may have; without it, as many as are left."""

    def __init__(self, most: int, of_one: int | None = None) -> None:
        self._most, self._of_one = most, of_one
        self._callers = Shares[str]()

    def enter(self, caller: str, *, peer: bool = False) -> None:
        """Takes a place. Raises `TooManyWaiters`."""
        left, held = self._most - len(self._callers), self._callers.held(caller)
        if not self._callers.fits(caller, left) or (self._of_one is not None and not peer and held >= self._of_one):
            raise TooManyWaiters(f"{len(self._callers)} calls wait, {held} of this address")
        self._callers.enter(caller)

    def leave(self, caller: str) -> None:
        """Gives it back."""
        self._callers.leave(caller)


class Rooms:
    """Both rooms of a replica."""

    def __init__(self) -> None:
        self._questions, self._removals = Room(WAITERS), Room(REMOVALS, OF_ONE_HOST)

    def of(self, request: pb.WaitAppliedRequest) -> Room:
        """Where this question waits."""
        return self._removals if request.WhichOneof("what") == "removed_address" else self._questions
