"""Which addresses sockets of this network namespace have, as the kernel lists them. Asked before one is removed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

LISTS = {4: "/proc/thread-self/net/tcp", 16: "/proc/thread-self/net/tcp6"}  # by the length of an address
_TIME_WAIT = "06"


def in_use(addresses: Iterable[bytes]) -> bool:
    """Whether a TCP socket has one of these, packed: one that listens, or an end of a connection that is not over."""
    wanted = {printed(address) for address in addresses}
    return bool(wanted) and any(address in wanted for path in LISTS.values() for address in _listed(path))


def _listed(path: str) -> Iterator[str]:
    try:
        lines = Path(path).read_text("ascii").splitlines()[1:]
    except OSError:
        return  # this kernel has not the protocol
    for line in lines:
        _, address, _, state, *_ = line.split()
        if state != _TIME_WAIT:
            yield address.partition(":")[0]


def printed(address: bytes) -> str:
    """An address as these lists have it: words of four bytes in the machine's order, in hexadecimal."""
    words = (address[start : start + 4] for start in range(0, len(address), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
