"""What this node's own state says of a Pod that asks: read between two calls of the agent.

All slices are looked through once for each question, on the thread beside the loop (some ms for 10,000); after that
only those of the Services that have the address.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

from deltaplane.model import EndpointSlice, Kind, ObjectKey, ServiceName
from deltaplane.shares import Allowance
from deltaplane.taking import takes, why_it_takes
from nodeagent.drain import callers
from nodeagent.drain.callers import Caller, Place, Refused
from nodeagent.stream.beside import always, never
from nodeagent.stream.mirror import Mirror

T = TypeVar("T")
SHOWN = 5  # Services that are named
STRANGERS, AFTER_A_PAUSE = 2.0, 10.0  # a second: addresses outside the Pods' ranges that slices are searched for


class Turn(Protocol):
    """`nodeagent.stream.beside.Beside.turn`."""

    async def __call__(self, call: Callable[[], T], *, long: Callable[[], bool] = ...) -> T: ...


class OwnState:
    """Implements `questions.Own`. `mirror`, `addresses` (of the machine) and `pods` (CIDRs) as they are now."""

    def __init__(
        self,
        turn: Turn,
        node: str,
        mirror: Callable[[], Mirror],
        addresses: Callable[[], Collection[bytes]],
        pods: Callable[[], tuple[str, ...]],
    ) -> None:
        self._turn, self._node, self._mirror = turn, node, mirror
        self._addresses, self._pods = addresses, pods
        self._strangers = Allowance(STRANGERS, AFTER_A_PAUSE)

    async def caller(self, address: bytes) -> Caller:
        """Who has this address. Raises `Refused`."""
        place = Place(self._node, self._addresses(), self._pods())
        if callers.stranger(address, place) and not self._strangers.take(time.monotonic()):
            raise Refused(429, "too many callers from outside the Pods' ranges")
        return await self._turn(lambda: callers.caller(address, place, self._slices()), long=always)

    def _slices(self) -> list[EndpointSlice]:
        return [each for each in self._mirror().objects() if isinstance(each, EndpointSlice)]

    async def still(self, caller: Caller) -> str:
        """Which Services send to it by this node's own state, and why; empty: none does."""
        return await self._turn(lambda: self._still(caller), long=never)

    def _still(self, caller: Caller) -> str:
        using = sorted(name for name in caller.services if self._sends(name, caller.address))
        if not using:
            return ""
        names = ", ".join(f"{namespace}/{name}" for namespace, name in using[:SHOWN])
        more = f" and {len(using) - SHOWN} more" if len(using) > SHOWN else ""
        return f"Service {names}{more} still sends to it: {self._why(using, caller.address)}"

    def _sends(self, name: ServiceName, address: bytes) -> bool:
        mirror = self._mirror()
        return takes(address, ObjectKey(Kind.SERVICE, *name), mirror.services.get(name), mirror.slices_of(*name))

    def _why(self, using: list[ServiceName], address: bytes) -> str:
        return why_it_takes(address, [piece for name in using for piece in self._mirror().slices_of(*name)])
