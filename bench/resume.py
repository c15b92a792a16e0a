"""How many leaves the digest needs: what comes back to an agent after an absence, for several ways to divide the state.

    python -m bench.resume

No sockets: real objects, hashed and divided as the product does, and snapshots built by the product. The agent was away
for 30 s at 100 changes/s, and meets a replica of another epoch, so that no log leads on from its revision.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

from msgspec import Struct

from bench.cluster import objects
from deltaplane.model import EndpointSlice, Object, ObjectKey
from deltaplane.snapshot import State, build

SERVICES, ENDPOINTS = 10_000, 10
AWAY, RATE = 30, 100  # seconds, changes per second
CHANGED = {"10 Services": 10, "100 Services": 100, "500 Services": 500, "any Service": SERVICES}
# Buckets, children of each, and children of each of these that is asked for where it differs, in one more question.
WAYS = (
    (256, 1, 1), (256, 4, 1), (256, 16, 1), (256, 64, 1), (256, 256, 1), (1024, 4, 1), (1024, 16, 1), (256, 16, 4),
    (256, 16, 16),
)  # fmt: skip
BUCKET_BYTES, CHILD_BYTES = 8, 4  # of one digest on the wire


class Way(Struct, frozen=True):
    """What one way to divide the state costs: bytes up and down, and the share of all objects that is sent."""

    buckets: int
    children: int
    third: int
    up: int
    largest: int  # of that, in one message
    down: int
    sent: float


def changed(slices: Sequence[ObjectKey], among: int) -> set[ObjectKey]:
    """The slices that AWAY * RATE changes among so many Services touch."""
    chance = random.Random(among)
    chosen = chance.sample(slices, among)
    return {chance.choice(chosen) for _ in range(AWAY * RATE)}


def measured(things: Sequence[Object], other: set[ObjectKey]) -> Iterator[Way]:
    """All WAYS where these objects differ."""
    numbers = {thing.key: _number(thing.key) for thing in things}
    for buckets, children, third in WAYS:
        leaves = {_leaf(numbers[key], buckets, children, third) for key in other}
        sent = [thing for thing in things if _leaf(numbers[thing.key], buckets, children, third) in leaves]
        asked = len({leaf // third // children for leaf in leaves}), len({leaf // third for leaf in leaves})
        levels = (children, third)
        up = [buckets * BUCKET_BYTES] + [a * n * CHILD_BYTES for a, n in zip(asked, levels, strict=True) if n > 1]
        yield Way(buckets, children, third, sum(up), max(up), _bytes(sent), len(sent) / len(things))


def _number(key: ObjectKey) -> int:
    kind, namespace, name = key
    return crc32(f"{int(kind)}\0{namespace}\0{name}".encode())


def _leaf(number: int, buckets: int, children: int, third: int) -> int:
    leaf = number % buckets * children + number // buckets % children
    return leaf * third + number // (buckets * children) % third


def _bytes(things: Iterable[Object]) -> int:
    return sum(map(len, build(State(bytes(16), 1, tuple(things), 0, {})).messages))


def main() -> None:
    things = list(objects(SERVICES, ENDPOINTS))
    slices = [thing.key for thing in things if isinstance(thing, EndpointSlice)]
    print(f"{len(things):,} objects, {_bytes(things) / 1e3:,.0f} KB as a whole snapshot\n")
    print(
        "| changes among | objects that differ | buckets x children | KB up | in one message | KB down | objects sent |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, among in CHANGED.items():
        other = changed(slices, among)
        share = len(other) / len(things)
        for way in measured(things, other):
            print(
                f"| {name} | {share:.1%} | {way.buckets} x {way.children}"
                f"{f' x {way.third}' * (way.third > 1)} | {way.up / 1e3:.1f} | {way.largest / 1e3:.1f} "
                f"| {way.down / 1e3:,.0f} | {way.sent:.1%} |"
            )


if __name__ == "__main__":
    main()
