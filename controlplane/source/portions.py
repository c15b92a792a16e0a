"""Much input in portions, so that nothing holds the event loop for long: by what it costs, and not by its number.

Called by `reflector` and `manifests`. A slice of 100 endpoints costs a hundred times what a Service does. Between two
portions every other task of the program gets its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from controlplane.facts import Fact, Sink
from deltaplane.model import EndpointSlice

TEXT_BYTES = 64 * 1024  # of JSON: some 300 endpoints, translated in about 10 ms
WEIGHT = 1000  # endpoints and objects, hashed, packed and given a revision in about 20 ms


def by_bytes(lines: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    """The lines in order: at most `most`, and about TEXT_BYTES, in each portion."""
    start = size = 0
    for place, line in enumerate(lines):
        if place > start and (size + len(line) > TEXT_BYTES or place - start >= most):
            yield lines[start:place]
            start, size = place, 0
        size += len(line)
    if start < len(lines):
        yield lines[start:]


def by_weight(facts: Iterable[Fact]) -> Iterator[list[Fact]]:
    """The facts in order, about WEIGHT in each portion."""
    portion: list[Fact] = []
    weight = 0
    for fact in facts:
        more = 1 + (len(fact.object.endpoints) if isinstance(fact.object, EndpointSlice) else 0)
        if portion and weight + more > WEIGHT:
            yield portion
            portion, weight = [], 0
        portion.append(fact)
        weight += more
    if portion:
        yield portion


async def feed_list(sink: Sink, facts: Iterable[Fact]) -> None:
    """Gives the sink so much of a list, as changes, that the list itself finds little to do: all but the last portion.

    A short list is left to `Sink.replace` alone, and so is a change at one stroke.
    """
    for portion in list(by_weight(facts))[:-1]:
        sink.update(portion)
        await asyncio.sleep(0)


async def feed(sink: Sink, facts: Iterable[Fact]) -> None:
    """Gives the sink facts as changes."""
    for portion in by_weight(facts):
        sink.update(portion)
        await asyncio.sleep(0)
