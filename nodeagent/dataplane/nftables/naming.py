"""Frontends and set members in words and values, for operators and others. `dataplane` asks; nothing here is hot."""

from __future__ import annotations

from deltaplane.names import shown_address
from nodeagent.dataplane.api import Held
from nodeagent.dataplane.nftables.changes import Change

_MEMBERS = (  # by `render`'s number
    *("cluster IP", "hairpin connection", "node port address", "service CIDR from"),
    *("all node port addresses of", "pod CIDR from"),
)


def describe(change: Change) -> str:
    """What a change is about, for an operator."""
    if not change.member:
        return name_of(change.identity)
    width = 4 if change.identity[0] == 4 else 16
    return f"{_MEMBERS[change.identity[1]]} {shown_address(change.identity[2 : 2 + width])}"


def name_of(frontend: bytes) -> str:
    """A frontend's identity in words, such as 10.96.0.1 TCP/443."""
    _, address, protocol, port = held(frontend)
    name = {6: "TCP", 17: "UDP", 132: "SCTP"}.get(protocol, str(protocol))
    return f"{shown_address(address) if address else 'node port'} {name}/{port}"


def held(frontend: bytes) -> Held:
    """What a frontend's identity means."""
    return Held(frontend[0], frontend[1:-8], frontend[-8], int.from_bytes(frontend[-4:-2], "big"))
