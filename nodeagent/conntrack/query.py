"""Which dumps of the kernel's table to request, so that they return few entries. Pure.

The kernel walks its whole table for every dump (some 15 ms for 262,144 buckets), but an entry that it does not return
costs little. So a few places are requested one by one, and the kernel compares; many, as after a start, are requested
as "all UDP of this family", and the agent compares. Of other protocols only entries that wait for their first answer
are requested, which are few, however many connections there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from deltaplane.forwarding import Target
from deltaplane.model import Protocol as Protocols
from deltaplane.model import family_of
from nodeagent.conntrack.attempts import Attempt
from nodeagent.conntrack.intent import CleanUp
from nodeagent.conntrack.places import Place

WALKS = 8  # more questions than this about one family become one that asks for everything
SOURCES = 1  # up to so many endpoints that are gone are asked for by name: each is a walk of its own


class Query(NamedTuple):
    """Flows of a family (4, 6) and a protocol: all, or those to `place`, or of these those answered by `source`.

    Of other protocols than UDP only flows that are `waiting`.
    """

    family: int
    place: Place | None = None
    source: Target | None = None
    protocol: int = int(Protocols.UDP)


class Flow(NamedTuple):
    """A tracked flow: its client's destination, who answers, and the client's packed address."""

    place: Place
    source: Target
    name: bytes  # what the table needs to find this very entry again
    client: bytes
    waiting: bool = False  # not UDP: nobody has answered yet, and nobody has translated it; False where unknown


class Table(Protocol):
    """A connection tracking table, real or in memory."""

    def flows(self, query: Query) -> Iterator[Flow]:
        """Flows that match, and perhaps others, perhaps twice. Raises `nodeagent.errors.KernelUnavailable`."""

    def delete(self, flows: Sequence[Flow]) -> int:
        """Deletes these very flows; how many were still there. Raises `nodeagent.errors.KernelUnavailable`."""


def queries(items: Sequence[CleanUp | Attempt]) -> list[Query]:
    """What to ask to find all flows that these clean-ups, all of one family, can take."""
    asked: dict[int, dict[Query, None]] = {}
    for query in (query for item in items for query in _each(item)):
        asked.setdefault(query.protocol, {})[query] = None
    families = [family_of(item.place.address) for item in items[:1]]
    return [query for family in families for protocol, each in asked.items() for query in _few(family, protocol, each)]


def _few(family: int, protocol: int, asked: Collection[Query]) -> Collection[Query]:
    return asked if len(asked) <= WALKS else [Query(family, protocol=protocol)]


def _each(item: CleanUp | Attempt) -> list[Query]:
    family = family_of(item.place.address)
    if isinstance(item, Attempt):
        return [Query(family, item.place, protocol=item.place.protocol)]
    if item.others or len(item.sources) > SOURCES:
        return [Query(family, item.place)]
    return [Query(family, item.place, source) for source in sorted(item.sources)]
