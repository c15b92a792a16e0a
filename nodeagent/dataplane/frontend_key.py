"""A frontend as bytes: the key that nftables and userspace mode know it by, and its name for people. Pure.

A byte for the family, then the frontend's key in nftables' maps: the address (none for a node port), the protocol in
four bytes, the port in four: 13 or 25 bytes, 9 for a node port.
"""

from __future__ import annotations

from deltaplane.forwarding import Entry
from deltaplane.model import protocol_name
from deltaplane.names import shown_address
from nodeagent.dataplane.api import Held

FAMILIES = {4: b"\x04", 6: b"\x06"}
_NODE_PORT = 9


def identity(entry: Entry) -> bytes:
    """The key of an entry's frontend."""
    _, family, address, protocol, port = entry.frontend
    return b"%b%b%c\0\0\0%b\0\0" % (FAMILIES[family], address, protocol, port.to_bytes(2, "big"))


def packed(family: int, address: bytes, protocol: int, port: int) -> bytes:
    """The key of a frontend; `address` is empty for a node port."""
    return b"%b%b%c\0\0\0%b\0\0" % (FAMILIES[family], address, protocol, port.to_bytes(2, "big"))


def is_node_port(frontend: bytes) -> bool:
    return len(frontend) == _NODE_PORT


def is_frontend(key: bytes) -> bool:
    """Whether it is a frontend's key, and no member's of a set (`set_members`), of which none is as long."""
    return len(key) in (_NODE_PORT, 13, 25)


def held(frontend: bytes) -> Held:
    """What a frontend's key means."""
    return Held(frontend[0], frontend[1:-8], frontend[-8], port_of(frontend))


def port_of(frontend: bytes) -> int:
    return int.from_bytes(frontend[-4:-2], "big")


def name_of(frontend: bytes) -> str:
    """A frontend's key for people, such as 10.96.0.1 TCP/443."""
    _, address, protocol, port = held(frontend)
    return f"{shown_address(address) if address else 'node port'} {protocol_name(protocol)}/{port}"
