"""What a frontend is in the kernel, for people: as the agent keeps account of it, and as it is read back. Values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

from msgspec import Struct

from deltaplane.explain import Manner
from deltaplane.forwarding import ServiceForwarding, Target


class Written(Struct, frozen=True):
    """One frontend. `local`: what sources outside the cluster get, where that is another list.

    `refusal`: "reject", "drop" or nothing. `words`: how the kernel's tables say it.
    """

    targets: tuple[Target, ...]  # sorted
    local: tuple[Target, ...] = ()
    refusal: str = ""
    words: str = ""


class Found(Struct, frozen=True):
    """Frontends by key (`frontend_key`), and other elements by name, such as those for connections to oneself."""

    frontends: Mapping[bytes, Written]
    members: frozenset[str] = frozenset()


def joined(found: Iterable[Found]) -> Found:
    """Of several families together."""
    frontends: dict[bytes, Written] = {}
    members: set[str] = set()
    for each in found:
        frontends.update(each.frontends)
        members.update(each.members)
    return Found(frontends, frozenset(members))


@runtime_checkable
class Readable(Protocol):
    """What a backend may be besides: one whose kernel can be read without changing anything, its own account included.

    Calls are made between two others, and may take long.
    """

    def wanted(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """What the kernel is to have of these Services, and of what the frontends depend on. Raises ValueError."""

    def account(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """What the agent believes that the kernel has of these."""

    def look(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """What the kernel has of these now. Raises OSError."""


@runtime_checkable
class Mannered(Protocol):
    """What a backend may be besides: one whose options or machine change what its mode does in its own way."""

    def manner(self) -> Manner:
        """As packets meet it now."""
