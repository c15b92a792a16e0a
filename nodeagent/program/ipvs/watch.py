"""Hears what others do to the link and to this machine's addresses, and ticks: one descriptor for both. I/O.

The kernel says nothing of virtual servers and sets, so those are looked at when the clock ticks. Addresses it does
tell; those of its notices that our own messages caused say what we know already.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
from struct import pack
from typing import NamedTuple, Protocol

from nodeagent.program.ipvs import wire as codec
from nodeagent.program.nftables.kernel import SOL_NETLINK

PERIOD = 30  # seconds between two looks at what the kernel does not tell
_GROUPS = (1, 5, 9)  # RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_ADD_MEMBERSHIP, _SO_RCVBUFFORCE = 1, 33
_BUFFER = 8 << 20
_libc = ctypes.CDLL(None, use_errno=True)


class Notice(NamedTuple):
    """An address that came or went; without one, a link that went."""

    address: codec.Address | None
    gone: bool
    link: int = 0


class Heard(NamedTuple):
    """What there was since the last time. `notices` None: some of it was lost."""

    notices: list[Notice] | None = []  # noqa: RUF012 - a default of a tuple, never changed
    ticked: bool = False


class Watch(Protocol):
    """What the dataplane needs to know of others."""

    def fileno(self) -> int:
        """Readable when there is something."""

    def heard(self) -> Heard:
        """Takes it, without waiting."""

    def close(self) -> None:
        """Hears no more."""


class Silence:
    """Nothing is heard: for a kernel in memory, and where nothing can be."""

    def fileno(self) -> int:
        return -1

    def heard(self) -> Heard:
        return Heard()

    def close(self) -> None:
        """Nothing to let go of."""


class NetlinkWatch:
    """The real one, in the network namespace of the calling thread. Raises OSError."""

    def __init__(self, period: float = PERIOD) -> None:
        self._poll = select.epoll()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._timer = -1
        try:
            self._listen()
            self._timer = _timer(period)
            self._poll.register(self._timer, select.EPOLLIN)
        except OSError:
            self.close()
            raise

    def _listen(self) -> None:
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.bind((0, 0))
        for group in _GROUPS:
            self._socket.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._poll.register(self._socket, select.EPOLLIN)

    def fileno(self) -> int:
        return self._poll.fileno()

    def heard(self) -> Heard:
        return Heard(self._notices(), self._ticked())

    def _ticked(self) -> bool:
        try:
            return bool(os.read(self._timer, 8))
        except BlockingIOError:
            return False

    def _notices(self) -> list[Notice] | None:
        found: list[Notice] = []
        whole = True
        while True:
            try:
                found += notices(self._socket.recv(1 << 16))
            except BlockingIOError:
                return found if whole else None
            except OSError:
                whole = False  # ENOBUFS

    def close(self) -> None:
        self._poll.close()
        self._socket.close()
        if self._timer >= 0:
            os.close(self._timer)
            self._timer = -1


def notices(data: bytes) -> list[Notice]:
    """What one datagram says."""
    found = []
    for kind, _, _, body in codec.frames(data):
        if kind == codec.DEL_LINK:
            found.append(Notice(None, gone=True, link=codec.read_link(body)[0]))
        elif kind in (codec.NEW_ADDRESS, codec.DEL_ADDRESS):
            address = codec.read_address(body)
            if address is not None:
                found.append(Notice(address, kind == codec.DEL_ADDRESS, address.link))
    return found


def _timer(period: float) -> int:
    """A descriptor that is readable every `period` seconds. Python has it from 3.13 on."""
    made = int(_libc.timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC))  # CLOCK_MONOTONIC
    if made < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    whole, rest = int(period), int(period % 1 * 1e9)
    if _libc.timerfd_settime(made, 0, pack("@qqqq", whole, rest, whole, rest), None):
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    return made
