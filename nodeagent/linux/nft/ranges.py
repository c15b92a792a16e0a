"""Ranges of addresses: what interval sets hold, from CIDRs and back. Pure.

A kernel interval set takes the first address of every range and, marked as an end, the one behind its last; so ranges
that touch must be one. Used for the sources of load balancers and for service CIDRs.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from nodeagent.linux.netlink import wire
from nodeagent.linux.text import network

_END = wire.number(3, 1)  # NFTA_SET_ELEM_FLAGS: NFT_SET_ELEM_INTERVAL_END


class Range(NamedTuple):
    """Addresses from `first` to `last`, both of them in it, packed."""

    first: bytes
    last: bytes

    @property
    def text(self) -> str:
        return f"{ip_address(self.first)}-{ip_address(self.last)}"

    def elements(self) -> list[bytes]:
        """The one or two elements of `NFTA_LIST_ELEM` that say it; nothing is behind the very last address."""
        start = wire.nest(1, wire.nest(1, wire.attribute(1, self.first)))
        following = int.from_bytes(self.last, "big") + 1
        if following.bit_length() > 8 * len(self.last):
            return [start]
        end = following.to_bytes(len(self.last), "big")
        return [start, wire.nest(1, wire.nest(1, wire.attribute(1, end)), _END)]


def merged(cidrs: Iterable[str]) -> tuple[Range, ...]:
    """The addresses of these CIDRs (of one family) as disjoint ranges, ascending. Raises ValueError."""
    networks = sorted((n.network_address.packed, n.broadcast_address.packed) for n in map(network, cidrs))
    found: list[Range] = []
    for first, last in networks:
        if found and int.from_bytes(first, "big") <= int.from_bytes(found[-1].last, "big") + 1:
            found[-1] = Range(found[-1].first, max(found[-1].last, last))
        else:
            found.append(Range(first, last))
    return tuple(found)


def without(ranges: Iterable[Range], holes: Iterable[Range]) -> list[Range]:
    """What of these ranges lies in no hole; both are disjoint and ascending."""
    left = list(holes)
    found: list[Range] = []
    for first, last in ranges:
        size, start, end = len(first), int.from_bytes(first, "big"), int.from_bytes(last, "big")
        for hole in left:
            low, high = (int.from_bytes(side, "big") for side in hole)
            if high < start or low > end:
                continue
            if low > start:
                found.append(Range(start.to_bytes(size, "big"), (low - 1).to_bytes(size, "big")))
            start = high + 1
        if start <= end:
            found.append(Range(start.to_bytes(size, "big"), last))
    return found


def paired(starts: Iterable[bytes], ends: Iterable[bytes]) -> list[Range]:
    """Ranges from the kernel's own elements: each start with the end that follows it."""
    behind = sorted(ends)
    found = []
    for start in sorted(starts):
        end = next((address for address in behind if address > start), None)
        last = b"\xff" * len(start) if end is None else (int.from_bytes(end, "big") - 1).to_bytes(len(start), "big")
        found.append(Range(start, last))
    return found
