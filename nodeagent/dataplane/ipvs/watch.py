"""Hears what others do to the link and to this machine's addresses, and ticks: one descriptor for both. I/O.

The kernel says nothing of virtual servers and sets, so those are looked at when the clock ticks. Addresses it does
tell; those of its notices that our own messages caused say what we know already.
"""

from __future__ import annotations

import select
from contextlib import ExitStack, closing
from typing import NamedTuple

from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket
from nodeagent.linux.timerfd import Timer

PERIOD = 30  # seconds between two looks at what the kernel does not tell
_GROUPS = (1, 5, 9)  # RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_BUFFER = 8 << 20


class Notice(NamedTuple):
    """An address that came or went; without one, a link that went."""

    address: rt.Address | None
    gone: bool
    link: int = 0


class Heard(NamedTuple):
    """What there was since the last time. `notices` None: some of it was lost."""

    notices: list[Notice] | None = []  # noqa: RUF012 - a default of a tuple, never changed
    ticked: bool = False


class Watch:
    """What the dataplane needs to know of others; this one hears nothing, as of a kernel in memory."""

    def fileno(self) -> int:
        """Readable when there is something; -1: never."""
        return -1

    def heard(self) -> Heard:
        """Takes it, without waiting."""
        return Heard()

    def close(self) -> None:
        """Hears no more."""


class NetlinkWatch(Watch):
    """The real one, in the network namespace of the calling thread. Raises OSError."""

    def __init__(self, period: float = PERIOD) -> None:
        with ExitStack() as opened:
            self._poll = opened.enter_context(closing(select.epoll()))
            self._socket = opened.enter_context(
                closing(NetlinkSocket(NetlinkProtocol.ROUTE, _GROUPS, receive_buffer=_BUFFER))
            )
            self._timer = opened.enter_context(closing(Timer(period)))
            self._poll.register(self._socket, select.EPOLLIN)
            self._poll.register(self._timer, select.EPOLLIN)
            self._opened = opened.pop_all()

    def fileno(self) -> int:
        return self._poll.fileno()

    def heard(self) -> Heard:
        return Heard(self._notices(), self._timer.ticked())

    def _notices(self) -> list[Notice] | None:
        found, whole = self._socket.heard()
        return [notice for data in found for notice in notices(data)] if whole else None

    def close(self) -> None:
        self._opened.close()


def notices(data: bytes) -> list[Notice]:
    """What one datagram says."""
    found = []
    for kind, _, _, body, _ in wire.frames(data):
        if kind == rt.DEL_LINK:
            found.append(Notice(None, gone=True, link=rt.read_link(body)[0]))
        elif kind in (rt.NEW_ADDRESS, rt.DEL_ADDRESS):
            address = rt.read_address(body)
            if address is not None:
                found.append(Notice(address, kind == rt.DEL_ADDRESS, address.link))
    return found
