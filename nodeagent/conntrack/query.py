"""What to ask the kernel's table, so that it hands out little: pure.

The kernel walks its whole table for every question (some 15 ms where it has 262,144 buckets), but an entry that it need
not hand out costs next to nothing. So few places are asked for one by one, with the kernel comparing, and many at
once, as after a start, are asked for as "all UDP of this family", with the comparing done here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from deltaplane.forwarding import Target
from nodeagent.conntrack.intent import CleanUp, Place

WALKS = 8  # more questions than this about one family become one that asks for everything
SOURCES = 1  # up to so many endpoints that are gone are asked for by name: each is a walk of its own


class Query(NamedTuple):
    """UDP flows of a family (4, 6): all, or those to `place`, or of these those answered by `source`."""

    family: int
    place: Place | None = None
    source: Target | None = None


class Flow(NamedTuple):
    """A tracked UDP flow: its client's destination, who answers, and the client's packed address."""

    place: Place
    source: Target
    name: bytes  # what the table needs to find this very entry again
    client: bytes


class Table(Protocol):
    """A connection tracking table, real or in memory."""

    def flows(self, query: Query) -> Iterator[Flow]:
        """Flows that match, and perhaps others, perhaps twice. Raises `nodeagent.errors.KernelUnavailable`."""

    def delete(self, flows: Sequence[Flow]) -> int:
        """Deletes these very flows; how many were still there. Raises `nodeagent.errors.KernelUnavailable`."""


def family_of(item: CleanUp) -> int:
    return 4 if len(item.place.address) == 4 else 6


def queries(items: Sequence[CleanUp]) -> list[Query]:
    """What to ask to find all flows that these clean-ups, all of one family, can take."""
    asked = dict.fromkeys(query for item in items for query in _each(item))
    return list(asked) if len(asked) <= WALKS else [Query(family_of(items[0]))]


def _each(item: CleanUp) -> list[Query]:
    family = family_of(item)
    if item.others or len(item.sources) > SOURCES:
        return [Query(family, item.place)]
    return [Query(family, item.place, source) for source in sorted(item.sources)]
