"""A sink and a reporter that remember; the sink also keeps the state a real store would have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from controlplane.facts import Fact
from deltaplane.model import Kind, Object, ObjectKey

LIMIT = 60.0  # seconds until a test that waits gives up


class Recorder:
    def __init__(self) -> None:
        self.state: dict[ObjectKey, Object] = {}
        self.updates: list[list[Fact]] = []
        self.replaces: list[tuple[Kind, list[Fact], str]] = []
        self.synced_kinds: list[Kind] = []
        self.problems: dict[str, str] = {}
        self.reports: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def update(self, facts: Iterable[Fact]) -> None:
        batch = list(facts)
        self.updates.append(batch)
        for fact in batch:
            if fact.object is None:
                self.state.pop(fact.key, None)
            else:
                self.state[fact.key] = fact.object
        self._changed.set()

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        batch = list(facts)
        self.replaces.append((kind, batch, resource_version))
        self.state = {key: value for key, value in self.state.items() if key.kind is not kind}
        self.state.update({fact.key: fact.object for fact in batch if fact.object is not None})
        self._changed.set()

    def synced(self, kind: Kind) -> None:
        self.synced_kinds.append(kind)
        self._changed.set()

    def invalid(self, where: str, reason: str) -> None:
        self.problems[where] = reason
        self.reports.append((where, reason))
        self._changed.set()

    def valid(self, where: str) -> None:
        del self.problems[where]
        self.reports.append((where, ""))
        self._changed.set()

    @property
    def names(self) -> set[str]:
        return {key.name for key in self.state}

    @property
    def changes(self) -> list[Fact]:
        return [fact for batch in self.updates for fact in batch]

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits for what the source tells; fails after the limit."""
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
