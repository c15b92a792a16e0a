"""Splits large input into portions by cost, so that nothing blocks the event loop for long.

Called by `reflector` and `manifests`. A slice of 100 endpoints costs a hundred times as much as a Service. Other tasks
run between two portions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from controlplane.facts import Fact, Sink, unannounced
from deltaplane.model import EndpointSlice

TEXT_BYTES = 64 * 1024  # of JSON: some 300 endpoints, which take about 10 ms
WEIGHT = 1000  # endpoints and objects; hashing, packing and a revision take about 20 ms


def by_bytes(lines: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    """The lines in order, in portions of at most `most` lines and about TEXT_BYTES."""
    start = size = 0
    for place, line in enumerate(lines):
        if place > start and (size + len(line) > TEXT_BYTES or place - start >= most):
            yield lines[start:place]
            start, size = place, 0
        size += len(line)
    if start < len(lines):
        yield lines[start:]


def by_weight(facts: Iterable[Fact]) -> Iterator[list[Fact]]:
    """The facts in order, in portions of about WEIGHT."""
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
    """Passes all portions of a list but the last to the sink as changes, so that `Sink.replace` has little left to do.

    A list of one portion is left to `Sink.replace`, which applies it at once.
    """
    for portion in list(by_weight(facts))[:-1]:
        sink.update(portion)
        await asyncio.sleep(0)


async def feed(sink: Sink, facts: Iterable[Fact]) -> None:
    """Passes facts to the sink as one change, in portions: each says how many Services the later ones take away."""
    portions = list(by_weight(facts))
    gone = [sum(unannounced(fact.key, fact.object, deleted=fact.deleted) for fact in portion) for portion in portions]
    to_come = sum(gone)
    for portion, here in zip(portions, gone, strict=True):
        to_come -= here
        sink.update([replace(fact, to_come=to_come) for fact in portion] if to_come else portion)
        await asyncio.sleep(0)
