"""A connection tracking table in memory: the kernel's twin for tests. It answers `query.Table` and counts its work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from deltaplane.forwarding import Target
from deltaplane.model import Protocol
from nodeagent.conntrack.places import Place
from nodeagent.conntrack.query import Flow, Query
from nodeagent.errors import KernelUnavailable


class Tracked(NamedTuple):
    """One entry: who sent it where, and who answers."""

    client: tuple[bytes, int]
    place: Place
    source: Target
    protocol: int = Protocol.UDP
    zone: int = 0
    answered: bool = True


class MemoryTable:
    """Implements `query.Table`. `broken` is raised by the next call that finds it set, once."""

    def __init__(self, entries: Iterable[Tracked] = ()) -> None:
        self._entries: dict[int, Tracked] = dict(enumerate(entries))
        self._next = len(self._entries)
        self.broken: KernelUnavailable | None = None
        self.walks: list[Query] = []
        self.handed_out = 0
        self.deletes = 0

    @property
    def entries(self) -> list[Tracked]:
        return list(self._entries.values())

    def add(self, *entries: Tracked) -> None:
        for entry in entries:
            self._entries[self._next] = entry
            self._next += 1

    def flows(self, query: Query) -> Iterator[Flow]:
        self._fail()
        self.walks.append(query)
        for number, entry in list(self._entries.items()):
            if number in self._entries and _matches(entry, query):
                self.handed_out += 1
                yield _flow(entry, number)

    def delete(self, flows: Sequence[Flow]) -> int:
        self._fail()
        self.deletes += 1
        found = [self._entries.pop(int.from_bytes(flow.name, "big"), None) for flow in flows]
        return sum(entry is not None for entry in found)

    def _fail(self) -> None:
        broken, self.broken = self.broken, None
        if broken is not None:
            raise broken


def _flow(entry: Tracked, number: int) -> Flow:
    place = entry.place._replace(protocol=entry.protocol)
    waiting = entry.protocol != Protocol.UDP and not entry.answered
    return Flow(place, entry.source, number.to_bytes(4, "big"), entry.client[0], waiting)


def _matches(entry: Tracked, query: Query) -> bool:
    place = entry.place._replace(protocol=entry.protocol)
    return (
        entry.protocol == query.protocol
        and not (entry.protocol != Protocol.UDP and entry.answered)
        and not entry.zone
        and len(entry.place.address) == (4 if query.family == 4 else 16)
        and query.place in (None, place)
        and query.source in (None, entry.source)
    )
