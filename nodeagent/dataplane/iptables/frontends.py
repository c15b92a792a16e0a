"""Which addresses and ports the chains that Services share are about, read from their rules. `dataplane` asks once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network

from deltaplane.model import PROTOCOL_NUMBERS
from nodeagent.dataplane.api import Held
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.tables import Tables

_PLACE = re.compile(r"(?:-d (?P<to>\S+) )?-p (?P<protocol>\w+) .*-m (?P=protocol) --dport (?P<port>\d+) ")
_OF_THE_NODE = (n.FILTER, n.NODE_PORTS)  # health checks, which nothing is translated for


def frontends(family: int, tables: Tables) -> Iterator[Held]:
    """Served and refused ones, each once; what is no frontend's line is passed over."""
    found = (frontend_of(family, rule) for where, rule in tables.lines() if where != _OF_THE_NODE)
    yield from dict.fromkeys(one for one in found if one is not None)


def frontend_of(family: int, rule: str) -> Held | None:
    """The frontend that a rule of a shared chain is about; None: none."""
    match = _PLACE.match(rule)
    if match is None or match["protocol"] not in PROTOCOL_NUMBERS:
        return None
    to = ip_network(match["to"]) if match["to"] else None
    # a network is loopback's: there connections to node ports are counted
    address = to.network_address.packed if to is not None and to.prefixlen == to.max_prefixlen else b""
    return Held(family, address, PROTOCOL_NUMBERS[match["protocol"]], int(match["port"]))
