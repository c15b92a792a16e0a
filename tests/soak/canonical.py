"""Tables in a form that is equal exactly where they mean the same: which slot an endpoint stands at does not matter.

Dense slots are checked on the way. Clients remembered by session affinity are written by packets and left out. Chains
that all Services share may stay after their last use; those of some Services only (`shared.is_private`) may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from sys import byteorder

from nodeagent.dataplane.nftables import shared
from nodeagent.dataplane.nftables.listing import Dump
from nodeagent.dataplane.nftables.program import Program
from nodeagent.dataplane.nftables.shared import CLIENTS, is_private
from nodeagent.linux.nft import tables
from nodeagent.linux.nft.kernel import Kernel

SLOTTED = (shared.ENDPOINTS, shared.NODEPORT_ENDPOINTS, shared.AFFINITY_SLOTS, shared.NODEPORT_AFFINITY_SLOTS)

CHAINS = "(chains)"
# (family, set or map) -> key -> what stands there; (family, CHAINS) -> name -> how many rules
Canonical = dict[tuple[int, str], dict[bytes, object]]


def canonical(dump: Mapping[int, Dump]) -> Canonical:
    """Of all families. Raises AssertionError where a list has a hole."""
    return {
        (family, name): _slotted(name, held) if name in SLOTTED else dict(held)
        for family, sets in dump.items()
        for name, held in sets.items()
    }


def structure(kernel: Kernel, programs: Iterable[Program]) -> Canonical:
    """All chains, and the sets that belong to some Services only with their elements."""
    found: Canonical = {}
    for wanted in programs:
        chains = tables.chains(kernel, wanted.table)
        found[wanted.family, CHAINS] = {name.encode(): rules for name, rules in chains.items()}
        for name in filter(is_private, tables.sets(kernel, wanted.table)):
            held = () if name.startswith(CLIENTS) else tables.listed(kernel, wanted.table, name)
            found[wanted.family, name] = {b"": "is there", **dict(held)}
    return found


def without_spare(found: Canonical, expected: Canonical) -> Canonical:
    """Without chains that all Services share and nothing expects any more."""
    return {
        place: {key: v for key, v in held.items() if b"/" in key or key in expected[place]}
        if place[1] == CHAINS
        else held
        for place, held in found.items()
    }


def _slotted(name: str, held: Mapping[bytes, bytes | str]) -> dict[bytes, object]:
    lists: dict[bytes, dict[int, bytes | str]] = {}
    for key, value in held.items():
        slot = int.from_bytes(key[-4:], byteorder)
        local = slot >= shared.LOCAL_OFFSET
        place = lists.setdefault(key[:-4] + bytes((local,)), {})
        place[slot - shared.LOCAL_OFFSET if local else slot] = value
    for frontend, values in lists.items():
        assert sorted(values) == list(range(len(values))), (
            f"{name} {frontend.hex()}: slots {sorted(values)} have a hole"
        )
    return {frontend: sorted(values.values(), key=str) for frontend, values in lists.items()}


def differences(found: Canonical, expected: Canonical) -> Iterator[str]:
    """One line for each key that differs."""
    for place in sorted(found.keys() | expected.keys()):
        have, want = found.get(place, {}), expected.get(place, {})
        if have != want:
            for key in sorted(have.keys() | want.keys()):
                if have.get(key) != want.get(key):
                    name = key.decode() if place[1] == CHAINS else key.hex()
                    yield f"IPv{place[0]} {place[1]} {name}: is {have.get(key)!r}, should be {want.get(key)!r}"
