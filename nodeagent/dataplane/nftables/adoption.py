"""Endpoint lists from the elements that a table holds, and the elements that fit no list. Pure; `listing` asks.

Another program may have changed our maps: whatever does not make a dense list of ours is a stray, to be deleted with
the frontend's next change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nodeagent.dataplane.frontend_key import is_node_port
from nodeagent.dataplane.nftables import affinity
from nodeagent.dataplane.nftables.shared import LOCAL_OFFSET
from nodeagent.dataplane.nftables.slots import ENDPOINT_WIDTHS
from nodeagent.linux.nft import elements

Place = tuple[str, bytes]  # a map and a key in it


class Lists(NamedTuple):
    """A frontend's endpoints for everybody and this node's own, and where elements are that are in neither."""

    slots: bytes
    local: bytes
    strays: list[Place]


NOTHING = Lists(b"", b"", [])


def plain_lists(family: int, name: str, listed: Iterable[tuple[bytes, bytes]]) -> dict[bytes, Lists]:
    """The lists of every frontend in a map from slots to endpoints."""
    prefix = bytes((family,))
    result = {}
    for key, by_slot in _by_slot(listed).items():
        slots, local = _dense(by_slot, 0), _dense(by_slot, LOCAL_OFFSET)
        kept = {*range(len(slots)), *range(LOCAL_OFFSET, LOCAL_OFFSET + len(local))}
        strays = [(name, elements.slot_key(key, slot)) for slot in by_slot.keys() - kept]
        result[prefix + key] = Lists(b"".join(slots), b"".join(local), strays)
    return result


def all_places(frontend: bytes, name: str, lists: Lists, *, sticky: bool) -> list[Place]:
    """Where all elements of a frontend are; `name` is the map of plain lists."""
    width = ENDPOINT_WIDTHS[frontend[0]]
    if sticky:
        return [*lists.strays, *affinity.elements_of(frontend, lists.slots, lists.local, width)]
    slots = (*range(len(lists.slots) // width), *range(LOCAL_OFFSET, LOCAL_OFFSET + len(lists.local) // width))
    return [*lists.strays, *((name, elements.slot_key(frontend[1:], slot)) for slot in slots)]


def sticky_lists(family: int, maps: dict[str, dict[bytes, bytes]]) -> dict[bytes, Lists]:
    """The lists of every frontend with affinity; one whose numbers are not ours has strays only."""
    prefix = bytes((family,))
    by_slot, *_ = affinity.NODE_MAPS if affinity.NODE_MAPS[0] in maps else affinity.ADDRESS_MAPS
    found: dict[bytes, affinity.Elements] = {}
    for name, held in maps.items():
        for key, value in held.items():
            found.setdefault(prefix + key[:-4], {})[name, key] = value
    slots = _by_slot(maps[by_slot].items())
    return {frontend: _sticky(frontend, slots.get(frontend[1:], {}), there) for frontend, there in found.items()}


def _sticky(frontend: bytes, by_slot: dict[int, bytes], there: affinity.Elements) -> Lists:
    names = affinity.NODE_MAPS if is_node_port(frontend) else affinity.ADDRESS_MAPS
    key, width = frontend[1:], ENDPOINT_WIDTHS[frontend[0]]
    slots, local = (
        b"".join(there.get((name, key + number), b"") for number in _dense(by_slot, start))
        for start, name in ((0, names[1]), (LOCAL_OFFSET, names[2]))
    )
    if affinity.elements_of(frontend, slots, local, width) == there:
        return Lists(slots, local, [])
    return Lists(b"", b"", list(there))


def _by_slot(listed: Iterable[tuple[bytes, bytes]]) -> dict[bytes, dict[int, bytes]]:
    slot_of = elements.SLOT.unpack_from
    found: dict[bytes, dict[int, bytes]] = {}
    for key, value in listed:
        found.setdefault(key[:-4], {})[slot_of(key, len(key) - 4)[0]] = value
    return found


def _dense(by_slot: dict[int, bytes], start: int) -> list[bytes]:
    """The values from `start` up to the first gap."""
    values: list[bytes] = []
    while start + len(values) in by_slot:
        values.append(by_slot[start + len(values)])
    return values
