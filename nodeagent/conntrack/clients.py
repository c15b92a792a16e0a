"""Whose flows a load balancer's address admits: clients within its source ranges, and what a change takes away. Pure.

Ranges are compared by the addresses that they cover, not by their text: two halves equal their whole.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

from deltaplane.forwarding import Target
from nodeagent.linux.nft.ranges import merged

Ranges = tuple[str, ...]  # CIDRs of one family, as `forwarding.Entry` has them; empty: every client


class Stay(NamedTuple):
    """Of one frontend: endpoints that its flows may stay with, if their client is in the ranges."""

    targets: tuple[Target, ...]
    ranges: Ranges = ()


NOBODY = Stay(())


class Clients(NamedTuple):
    """Packed addresses of one family: from each of `firsts` to the one of `lasts` beside it; ascending, none touch."""

    firsts: tuple[bytes, ...]
    lasts: tuple[bytes, ...]

    def has(self, first: bytes, last: bytes | None = None) -> bool:
        """Whether this address, or all from `first` to `last`, are among them."""
        at = bisect_right(self.firsts, first) - 1
        return at >= 0 and (last or first) <= self.lasts[at]


class Guarded(NamedTuple):
    """Endpoints whose flows stay if their client is one of these."""

    targets: frozenset[Target]
    clients: Clients

    def admits(self, source: Target, client: bytes) -> bool:
        return source in self.targets and self.clients.has(client)


@lru_cache(maxsize=4)  # the ports of a Service share their ranges, and there may be thousands
def clients(ranges: Ranges) -> Clients:
    """The addresses of these CIDRs, of which there is at least one. Raises ValueError."""
    found = merged(ranges)
    return Clients(tuple(each.first for each in found), tuple(each.last for each in found))


def guard(stay: Stay) -> Guarded:
    """The same, ready to be asked; it has ranges. Raises ValueError."""
    return Guarded(frozenset(stay.targets), clients(stay.ranges))


def narrowed(before: Ranges, after: Ranges) -> bool:
    """Whether some client was admitted before and is not any more."""
    if before == after or not after:
        return False
    now = clients(after)
    width = len(now.firsts[0])
    then = clients(before) if before else Clients((bytes(width),), (b"\xff" * width,))
    return not all(map(now.has, then.firsts, then.lasts))
