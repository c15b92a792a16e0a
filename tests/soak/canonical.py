"""Tables in a form that is equal exactly where they mean the same: which slot an endpoint stands at does not matter.

Dense slots are checked on the way. Clients remembered by session affinity are written by packets and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sys import byteorder

from nodeagent.program.nftables import shared
from nodeagent.program.nftables.listing import Dump

SLOTTED = (shared.ENDPOINTS, shared.NODEPORT_ENDPOINTS, shared.AFFINITY_SLOTS, shared.NODEPORT_AFFINITY_SLOTS)

Canonical = dict[tuple[int, str], dict[bytes, object]]  # (family, set or map) -> key -> what stands there


def canonical(dump: Mapping[int, Dump]) -> Canonical:
    """Of all families. Raises AssertionError where a list has a hole."""
    return {
        (family, name): _slotted(name, held) if name in SLOTTED else dict(held)
        for family, sets in dump.items()
        for name, held in sets.items()
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
                    yield f"IPv{place[0]} {place[1]} {key.hex()}: is {have.get(key)!r}, should be {want.get(key)!r}"
