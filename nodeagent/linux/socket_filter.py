"""Socket filters: which sources a listening socket hears at all. Packets of others vanish in the kernel (G1).

Classic BPF as in `linux/filter.h`; words at `NETWORK + n` are those of the IP header, whatever the protocol. Pure but
for `attach`.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from struct import pack

from nodeagent.linux import text

NETWORK = 0xFFF00000  # SKF_NET_OFF: offsets from the start of the network header
LOAD, AND, JUMP_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_JMP|JEQ|K, BPF_RET|K
_SO_ATTACH_FILTER = 26
_MOST = 4096  # BPF_MAXINSNS
ALL = 0xFFFFFFFF
_SOURCES = {4: 12, 6: 8}  # where the source address stands in the IP header

Step = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def allowing(family: int, cidrs: Iterable[str]) -> list[Step]:
    """A program that keeps packets from these networks and drops all others. Raises ValueError for a bad CIDR."""
    steps: list[Step] = []
    for network in map(text.network, cidrs):
        if network.version == family:
            steps += _network(network)
    return [*steps, (RETURN, 0, 0, 0)]


def _network(network: IPv4Network | IPv6Network) -> list[Step]:
    """Returns at once where the source is inside; goes on behind itself where it is not."""
    words = -(-network.prefixlen // 32)
    steps: list[Step] = []
    left = 3 * words + 1  # steps of this network, its return included
    for word in range(words):
        bits, mask = (
            int.from_bytes(part.packed[4 * word : 4 * word + 4], "big")
            for part in (network.network_address, network.netmask)
        )
        left -= 3
        place = NETWORK + _SOURCES[network.version] + 4 * word
        steps += [(LOAD, 0, 0, place), (AND, 0, 0, mask), (JUMP_EQUAL, 0, left, bits)]
    return [*steps, (RETURN, 0, 0, ALL)]


def attach(listener: socket.socket, steps: list[Step]) -> None:
    """From now on the socket hears only what the program keeps. Raises OSError, ValueError where it is too long."""
    if len(steps) > _MOST:
        raise ValueError(f"{len(steps)} steps, a socket filter has {_MOST}: use fewer source ranges")
    code = ctypes.create_string_buffer(b"".join(pack("=HBBI", *step) for step in steps))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("@HP", len(steps), ctypes.addressof(code)))
