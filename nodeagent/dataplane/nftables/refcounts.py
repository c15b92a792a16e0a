"""Who wants a set's member: a few thousand Services may share an endpoint, and most endpoints have one. Pure.

Each step costs the same however many want a member. Called by `tracker`.
"""

from __future__ import annotations

from collections.abc import Iterator

from deltaplane.model import ObjectKey


class Wishes:
    """Members by identity. A single owner is held as it is, which is what nearly all have; several in a dict."""

    def __init__(self) -> None:
        self._owners: dict[bytes, ObjectKey | dict[ObjectKey, None]] = {}

    def __contains__(self, member: bytes) -> bool:
        return member in self._owners

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._owners)

    def first(self, member: bytes) -> ObjectKey | None:
        """One that wants it."""
        owners = self._owners.get(member)
        return next(iter(owners)) if isinstance(owners, dict) else owners

    def add(self, member: bytes, owner: ObjectKey) -> None:
        owners = self._owners.setdefault(member, owner)
        if isinstance(owners, dict):
            owners[owner] = None
        elif owners != owner:
            self._owners[member] = {owners: None, owner: None}

    def drop(self, member: bytes, owner: ObjectKey) -> None:
        owners = self._owners.get(member)
        if isinstance(owners, dict):
            owners.pop(owner, None)
            if len(owners) == 1:
                (self._owners[member],) = owners
        elif owners == owner:
            del self._owners[member]

    def leave_out(self, family: int) -> None:
        """Forgets a family's."""
        for member in [member for member in self._owners if member[0] == family]:
            del self._owners[member]
