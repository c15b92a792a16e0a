"""Where a replica is dialled, and who says which places there are. Used by `client`; `servers` has those of names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Place(Struct, frozen=True):
    """`server`: HOST:PORT or unix:///PATH to dial. `name`: what its certificate must say, where that is not HOST.

    `said`: the words of --server that lead there, where those are others.
    """

    server: str
    name: str = ""
    said: str = ""

    def among(self, targets: Sequence[str]) -> bool:
        """Whether a GoAway with these targets leads there."""
        return self.server in targets or (bool(self.said) and self.said in targets)


class Directory(Protocol):
    """Says where to go."""

    async def look(self) -> None:
        """Asks again what names mean."""

    def places(self, *, tired: bool) -> Sequence[Place]:
        """All there are. `tired`: each was tried in vain since the last stream."""

    def good(self, place: Place) -> None:
        """A replica answers there."""


class Fixed:
    """A `Directory` of servers that are dialled as they are said."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._places = [Place(server) for server in servers]

    async def look(self) -> None:
        """There are no names to ask for."""

    def places(self, *, tired: bool) -> Sequence[Place]:
        return self._places

    def good(self, place: Place) -> None:
        """Nothing is kept."""
