"""Clients of session affinity that outlive their table: read from the one that is replaced, put into the next.

Only packets write these maps, so nothing else could say what was in them. `delivery` asks when it replaces a table; a
client that connects for the first time between the reading and the replacement is not remembered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from nodeagent.program.nftables import objects, wire
from nodeagent.program.nftables.expressions import LAYOUTS, NFPROTO
from nodeagent.program.nftables.kernel import Kernel

_KEY, _DATA, _TIMEOUT, _EXPIRATION = 1, 2, 4, 5  # NFTA_SET_ELEM_*
_NUMBER = 4  # bytes of an endpoint's number


def clients(kernel: Kernel, family: int, table: str, names: Iterable[str]) -> dict[str, list[bytes]]:
    """The elements of these maps, ready to be added; a map that is not there or of another form has none."""
    return {name: found for name in names if (found := _clients(kernel, family, table, name))}


def _clients(kernel: Kernel, family: int, table: str, name: str) -> list[bytes]:
    body = wire.text(1, table) + wire.text(2, name)
    found: list[bytes] = []
    try:
        for message in kernel.ask(wire.request(objects.GET_ELEMENT, wire.DUMP, 0, NFPROTO[family], body)):
            listed = wire.attributes(message.body).get(3, b"")
            for _, start, end in wire.each_attribute(listed):
                found += _client(wire.attributes(listed[start:end]), LAYOUTS[family].width)
    except OSError:
        return []
    return found


def _client(element: dict[int, bytes], width: int) -> list[bytes]:
    key, number = (wire.attributes(element.get(kind, b"")).get(1, b"") for kind in (_KEY, _DATA))
    if len(key) != width or len(number) != _NUMBER or _TIMEOUT not in element or _EXPIRATION not in element:
        return []
    expiration = max(1, struct.unpack(">Q", element[_EXPIRATION])[0])  # milliseconds; 0 would be: never
    times = wire.attribute(_TIMEOUT, element[_TIMEOUT]) + wire.number64(_EXPIRATION, expiration)
    return [wire.nest(1, wire.nest(_KEY, wire.attribute(1, key)), wire.nest(_DATA, wire.attribute(1, number)), times)]
