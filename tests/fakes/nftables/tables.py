"""What the in-memory kernel holds, and what it may hold. `memory` changes it, `trace` reads it."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import elements, objects

DROP = "drop"
_REMEMBERED = 16_384  # rules and verdicts whose meaning is kept: some MB
_MINUTE = 60_000  # milliseconds that every element with a timeout has left: no time passes here


@dataclass
class MemorySet:
    key_size: int
    data_size: int  # 0: a set
    verdicts: bool
    flags: int = 0
    elements: dict[bytes, bytes] = field(default_factory=dict)  # in interval sets, END for a key where a range ends


@dataclass
class MemoryChain:
    hook: tuple[str, int, int] | None  # type, hook number, priority
    rules: list[bytes] = field(default_factory=list)  # the expressions of each, as sent


@dataclass
class MemoryTable:
    note: bytes
    sets: dict[str, MemorySet] = field(default_factory=dict)
    chains: dict[str, MemoryChain] = field(default_factory=dict)


class References(NamedTuple):
    """The names in a rule."""

    sets: frozenset[str]
    chains: frozenset[str]


def packed(held: MemorySet, key: bytes, data: bytes) -> bytes:
    """An element as a listing has it."""
    parts = wire.nest(1, wire.attribute(1, key))
    if held.data_size:
        parts += wire.nest(2, data if held.verdicts else wire.attribute(1, data))
    elif data == elements.END:
        parts += wire.number(3, 1)
    if held.flags & objects.TIMEOUT:
        parts += wire.number64(4, _MINUTE) + wire.number64(5, _MINUTE)
    return wire.nest(1, parts)


def unfit(table: MemoryTable, held: MemorySet, data: bytes) -> int:
    """The errno for a value that a set or map cannot hold."""
    if not held.data_size:
        return errno.EINVAL if data else 0
    if held.verdicts:
        return 0 if target(data) == DROP or target(data) in table.chains else errno.ENOENT
    return 0 if len(wire.attributes(data).get(1, b"")) == held.data_size else errno.EINVAL


def overlaps(held: MemorySet, key: bytes, kind: bytes) -> bool:
    """Whether a new bound of an interval set would reach into a range that is there (nft_rbtree, by neighbours).

    A start must not come after a start, an end neither after an end nor before one. The kernel does not see more than
    that: of two ranges with the same end, the one that goes takes it along. It does take ranges that touch; here they
    are refused, because they would need two bounds at one key.
    """
    before = max((bound for bound in held.elements if bound < key), default=None)
    after_end = before is None or held.elements[before] == elements.END
    if kind != elements.END:
        return not after_end
    behind = min((bound for bound in held.elements if bound > key), default=None)
    return after_end or (behind is not None and held.elements[behind] == elements.END)


def complete(table: MemoryTable, rule: bytes) -> bool:
    """Whether the sets and chains that a rule names are there."""
    named = references(rule)
    return named.sets <= table.sets.keys() and named.chains <= table.chains.keys()


@lru_cache(_REMEMBERED)
def references(rule: bytes) -> References:
    """What a rule's expressions name: asked of all rules whenever a chain or a set goes, and so remembered."""
    sets, chains = set(), set()
    for expression in wire.payloads(rule, 1):
        parts = wire.attributes(expression)
        data, name = wire.attributes(parts[2]), wire.as_text(parts[1])
        if name in ("lookup", "dynset"):
            sets.add(wire.as_text(data[1]))
        elif name == "immediate":
            chains.add(target(data[2]))
    return References(frozenset(sets), frozenset(chains - {DROP}))


@lru_cache(_REMEMBERED)
def target(data: bytes) -> str:
    """The chain that a verdict goes to, or `DROP`."""
    return elements.verdict_name(data)
