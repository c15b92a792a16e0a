"""Where the replicas of this control plane are, as `--replicas` says: addresses, names, or the endpoints of a Service.

    finder = Remembered(Named(["192.0.2.10:50051", "replicas.example:50051"]))
    await finder.find()  # HOST:PORT of each, this replica's own among them or not

One answer for all who ask: `peers` puts operators' questions to the replicas, `reached` looks which of them agents can
be sent to.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from deltaplane.flags import host_port, joined

FRESH = 10.0  # seconds for which found addresses count
PATIENCE = 3.0  # seconds for a name


class Unfound(Exception):
    """It cannot be learnt where all replicas are; the text says why. `places`: where those are that were found."""

    def __init__(self, text: str, places: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.places = tuple(places)


class Finder(Protocol):
    """Where the replicas are."""

    async def find(self) -> Sequence[str]:
        """HOST:PORT of each, this one's own may be among them; sorted. Raises `Unfound`."""


class Alone:
    """There are no others."""

    async def find(self) -> Sequence[str]:
        return ()


class Named:
    """A list of HOST:PORT. A name counts for all addresses that it has, as a headless Service's does.

    A name that does not resolve any more counts for the addresses that it had.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places
        self._known: dict[str, frozenset[str]] = {}

    async def find(self) -> Sequence[str]:
        failed = [text for text in await asyncio.gather(*map(self._resolve, self._places)) if text]
        found = sorted(frozenset().union(*self._known.values()))
        if failed:
            raise Unfound("; ".join(failed), found)
        return found

    async def _resolve(self, place: str) -> str:
        """Notes its addresses. Returns why it has none, and never had."""
        host, port = host_port(place)
        try:
            async with asyncio.timeout(PATIENCE):
                infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or f"no answer in {PATIENCE:g} s"
            return "" if place in self._known else f"--replicas={place}: {reason}"
        self._known[place] = frozenset(joined(str(info[4][0]), port) for info in infos)
        return ""


class OfService:
    """The endpoints of a headless Service, asked of the API server. `ask`: (host, port) of each."""

    def __init__(self, ask: Callable[[], Awaitable[Sequence[tuple[str, int]]]]) -> None:
        self._ask = ask

    async def find(self) -> Sequence[str]:
        return sorted({joined(host, port) for host, port in await self._ask()})


class Remembered:
    """What a finder found counts for a while; where it cannot find any more, what it found before still does."""

    def __init__(self, finder: Finder, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._finder, self._monotonic = finder, monotonic
        self._found: Sequence[str] | None = None
        self._until = 0.0

    async def find(self) -> Sequence[str]:
        if self._found is None or self._monotonic() >= self._until:
            try:
                self._found = await self._finder.find()
            except Unfound:
                if self._found is None:
                    raise
            self._until = self._monotonic() + FRESH
        return self._found
