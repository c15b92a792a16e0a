"""Session affinity in the tables: the numbers by which clients are bound to endpoints. Pure.

`shared` holds the rules. An endpoint's number depends on nothing but its own address and port, as good as always, so
the map of a service port's clients (which only packets write) stays right over endpoint changes and restarts, and every
frontend of the port reads it. An endpoint that comes or goes costs two elements for each frontend that has it, whatever
the number of clients and endpoints; one that is gone has no number, so its clients are forgotten at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from nodeagent.dataplane.frontend_key import is_node_port
from nodeagent.dataplane.nftables.shared import (
    AFFINITY_ENDPOINTS,
    AFFINITY_LOCALS,
    AFFINITY_SLOTS,
    LOCAL_OFFSET,
    NODEPORT_AFFINITY_ENDPOINTS,
    NODEPORT_AFFINITY_LOCALS,
    NODEPORT_AFFINITY_SLOTS,
)
from nodeagent.dataplane.nftables.slots import split
from nodeagent.linux.nft.expressions import host32

Elements = dict[tuple[str, bytes], bytes]  # (map, key) -> value

ADDRESS_MAPS = (AFFINITY_SLOTS, AFFINITY_ENDPOINTS, AFFINITY_LOCALS)
NODE_MAPS = (NODEPORT_AFFINITY_SLOTS, NODEPORT_AFFINITY_ENDPOINTS, NODEPORT_AFFINITY_LOCALS)

BY_NUMBER = {name: slots for slots, *rest in (ADDRESS_MAPS, NODE_MAPS) for name in rest}
"""The maps by number, each with the map that has the numbers."""


def numbers(values: Iterable[bytes]) -> dict[bytes, int]:
    """The number of each endpoint value, all different.

    A checksum's last 28 bits with four zero bits behind: a packet of such a priority is queued as best effort. Of
    endpoints whose checksums agree (one pair in 2^28) the first by value has it, and the others that of a next round:
    they change when the first one goes, and their clients then draw anew.
    """
    found: dict[bytes, int] = {}
    taken: set[int] = set()
    for value in sorted(values):
        start = 0
        while (number := crc32(value, start) << 4 & 0xFFFFFFFF) in taken:
            start += 1
        taken.add(number)
        found[value] = number
    return found


def elements_of(frontend: bytes, slots: bytes, local: bytes, width: int) -> Elements:
    """All that the affinity maps hold of one frontend (`render.identity`) with these lists."""
    key = frontend[1:]
    by_slot, everywhere, own = NODE_MAPS if is_node_port(frontend) else ADDRESS_MAPS
    lists = ((0, everywhere, split(slots, width)), (LOCAL_OFFSET, own, split(local, width)))
    known = numbers({*lists[0][2], *lists[1][2]})
    found: Elements = {}
    for offset, by_number, values in lists:
        for slot, value in enumerate(values, offset):
            number = host32(known[value])
            found[by_slot, key + host32(slot)] = number
            found[by_number, key + number] = value
    return found
