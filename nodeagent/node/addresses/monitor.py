"""The addresses of this machine, listed once and then kept current by what the kernel tells. Sockets are here alone.

Sockets belong to the network namespace of the thread that made the monitor. Nothing is polled; no privilege is needed.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Awaitable, Callable

from deltaplane.logs import event
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink.rtnetlink import GROUP_IPV4, GROUP_IPV6, Holding
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket
from nodeagent.linux.readable import readable
from nodeagent.node.addresses import wire
from nodeagent.node.addresses.wire import Notice

log = logging.getLogger(__name__)

LISTINGS = 10  # how often a listing that was interrupted is made again


class Monitor:
    """`addresses` are packed, those of all interfaces and both families, loopback included.

    `fileno` is readable when there is news; `read` takes it. The constructor and `read` raise `KernelUnavailable`.
    """

    def __init__(self) -> None:
        self._sequence = 0
        self._held: set[Holding] = set()
        self.addresses: frozenset[bytes] = frozenset()
        self._asking, self._hearing = _open(), _open()
        try:
            self._begin()
            self.read()
        except OSError as error:
            self.close()
            raise _unavailable("listing", error) from error
        except KernelUnavailable:
            self.close()
            raise

    def fileno(self) -> int:
        return self._hearing.fileno()

    def read(self) -> bool:
        """Takes everything that has happened; whether `addresses` is another set now."""
        before = self.addresses
        try:
            self._hear()
        except OSError as error:
            raise _unavailable("following", error) from error
        now = frozenset(holding.address for holding in self._held)
        if now != before:
            self.addresses = now
        return now != before

    def close(self) -> None:
        self._asking.close()
        self._hearing.close()

    def _begin(self) -> None:
        """Listens before it lists, so that nothing is missed in between."""
        for group in (GROUP_IPV4, GROUP_IPV6):
            self._hearing.join(group)
        self._relist()

    def _hear(self) -> None:
        while True:
            try:
                for data in self._hearing.waiting():
                    for notice in wire.notices(data):
                        self._take(notice)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                event(log, logging.INFO, "addresses changed faster than they were read: listing them again")
                self._discard()
                self._relist()
            else:
                return

    def _take(self, notice: Notice) -> None:
        if notice.holding is not None:
            (self._held.discard if notice.gone else self._held.add)(notice.holding)

    def _discard(self) -> None:
        """What is left from before a gap: replayed onto a newer listing it would undo what was lost in the gap."""
        self._hearing.heard()

    def _relist(self) -> None:
        """What is heard after this began is taken afterwards, so all that a listing may not do is lack something.

        One that was interrupted may: so it is made again, and all of them count.
        """
        self._held.clear()
        for _ in range(LISTINGS):
            if not self._list():
                return

    def _list(self) -> bool:
        """Adds what one listing has; whether it was interrupted."""
        self._sequence += 1
        self._asking.send(wire.listing(self._sequence))
        interrupted = False
        while True:
            for notice in wire.notices(self._asking.receive()):
                self._take(notice)
                interrupted |= notice.interrupted
                if notice.errno:
                    raise OSError(notice.errno, os.strerror(notice.errno))
                if notice.errno == 0:
                    return interrupted


async def follow(monitor: Monitor, changed: Callable[[], Awaitable[None]]) -> None:
    """Reads for as long as it is not cancelled, and awaits `changed` when `monitor.addresses` is another set."""
    while True:
        await readable(monitor.fileno())
        if monitor.read():
            await changed()


def _open() -> NetlinkSocket:
    """Bound, because the kernel tells a socket without a number nothing."""
    try:
        return NetlinkSocket(NetlinkProtocol.ROUTE)
    except OSError as error:
        raise _unavailable("listing", error) from error


def _unavailable(act: str, error: OSError) -> KernelUnavailable:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return KernelUnavailable(f"{act} this machine's addresses by rtnetlink failed ({reason}): look at the kernel log")
