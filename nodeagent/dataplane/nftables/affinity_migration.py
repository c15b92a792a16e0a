"""What packets wrote and outlives its table: read from the one that is replaced, put into the next.

These are the clients of session affinity, and where connections were sent that are translated: nothing else could say
what was there. `delivery` asks when it replaces a table; what comes between reading and replacement is not remembered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import tables
from nodeagent.linux.nft.expressions import LAYOUTS
from nodeagent.linux.nft.kernel import Kernel
from nodeagent.linux.nft.objects import Table

_KEY, _DATA, _TIMEOUT, _EXPIRATION = 1, 2, 4, 5  # NFTA_SET_ELEM_*
_NUMBER = 4  # bytes of an endpoint's number


def clients(kernel: Kernel, family: int, table: str, names: Iterable[str]) -> dict[str, list[bytes]]:
    """The elements of these maps, ready to be added; a map that is not there or of another form has none."""
    size = LAYOUTS[family].width
    return {name: found for name in names if (found := _listed(kernel, family, (table, name), (size, _NUMBER)))}


def places(kernel: Kernel, family: int, table: str, name: str) -> list[bytes]:
    """The elements of a set of address, protocol and port, likewise."""
    return _listed(kernel, family, (table, name), (LAYOUTS[family].width + 8, 0))


def _listed(kernel: Kernel, family: int, place: tuple[str, str], sizes: tuple[int, int]) -> list[bytes]:
    """`sizes`: of keys and values."""
    table, name = place
    found: list[bytes] = []
    try:
        for listed in tables.packed_elements(kernel, Table(family, table), name):
            for _, start, end in wire.each_attribute(listed):
                found += _element(wire.attributes(listed[start:end]), sizes)
    except OSError:
        return []
    return found


def _element(element: dict[int, bytes], sizes: tuple[int, int]) -> list[bytes]:
    key, value = (wire.attributes(element.get(kind, b"")).get(1, b"") for kind in (_KEY, _DATA))
    if (len(key), len(value)) != sizes or _TIMEOUT not in element or _EXPIRATION not in element:
        return []
    expiration = max(1, struct.unpack(">Q", element[_EXPIRATION])[0])  # milliseconds; 0 would be: never
    times = wire.attribute(_TIMEOUT, element[_TIMEOUT]) + wire.number64(_EXPIRATION, expiration)
    data = wire.nest(_DATA, wire.attribute(1, value)) if value else b""
    return [wire.nest(1, wire.nest(_KEY, wire.attribute(1, key)), data, times)]
