"""Which addresses and ports the kernel serves for us, from virtual servers and sets. `dataplane` asks once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nodeagent.dataplane.api import Held
from nodeagent.dataplane.ipvs.names import KNOWN, NODE_PORT, Element
from nodeagent.dataplane.ipvs.objects import BY_MARK, served_at
from nodeagent.dataplane.ipvs.state import State, excluded
from nodeagent.dataplane.local_traffic import Network

_NODE_PORTS = {name: protocol for protocol, name in NODE_PORT.items()}


def frontends(state: State, others: Iterable[Network]) -> list[Held]:
    """Each once. `others`: networks in which nothing is ever taken away.

    The sets have what no virtual server tells: a node port as such, and addresses that drop.
    """
    networks = tuple(others)
    served = (key for key in state.virtuals if key.protocol != BY_MARK)
    places = [*served, *(served_at(element) for element in state.elements if element.set in KNOWN)]
    own = (Held(key.family, key.address, key.protocol, key.port) for key in places if not excluded(key, networks))
    return list(dict.fromkeys((*own, *_node_ports(state.elements))))


def _node_ports(elements: Iterable[Element]) -> Iterator[Held]:
    for family, name, key in elements:
        if name in _NODE_PORTS:
            yield Held(family, b"", _NODE_PORTS[name], int.from_bytes(key[-2:], "big"))
