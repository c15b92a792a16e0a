"""Which Service has an address and port, or a node port, that several ask for: the one whose name sorts first.

Called by `tracker`.
"""

from __future__ import annotations

from collections.abc import Iterator

from deltaplane.model import ObjectKey
from nodeagent.dataplane.iptables.render import Identity


class Claims:
    """Owners by what they claim, the holder first."""

    def __init__(self) -> None:
        self._owners: dict[Identity, tuple[ObjectKey, ...]] = {}
        self._contested: dict[Identity, None] = {}

    def change(self, owner: ObjectKey, before: set[Identity], after: set[Identity]) -> set[ObjectKey]:
        """Other owners whose right has changed by this."""
        touched: set[ObjectKey] = set()
        for frontend in before ^ after:
            old = self._owners.get(frontend, ())
            new = tuple(other for other in old if other != owner)
            if frontend in after:
                new = tuple(sorted((*new, owner)))
            self._put(frontend, new)
            if old[:1] != new[:1]:
                touched.update((*old[:1], *new[:1]))
        return touched - {owner}

    def _put(self, frontend: Identity, owners: tuple[ObjectKey, ...]) -> None:
        if owners:
            self._owners[frontend] = owners
        else:
            self._owners.pop(frontend, None)
        if len(owners) > 1:
            self._contested[frontend] = None
        else:
            self._contested.pop(frontend, None)

    def holds(self, owner: ObjectKey, frontend: Identity | None) -> bool:
        return frontend is None or self._owners.get(frontend, (owner,))[0] == owner

    def conflicts(self) -> Iterator[tuple[ObjectKey, Identity, ObjectKey]]:
        """Who waits, for what, and who has it."""
        for frontend in self._contested:
            holder, *waiting = self._owners[frontend]
            yield from ((owner, frontend, holder) for owner in waiting)
