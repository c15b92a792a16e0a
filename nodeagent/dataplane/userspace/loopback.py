"""The listeners' own addresses on the loopback interface, by rtnetlink (`linux/rtnetlink.h`, `linux/if_addr.h`).

No other machine has a route to them, the kernel never chooses them as a source (host scope; deprecated), and a redirect
there works behind interfaces without an address. `dataplane` adds them, `cleanup` takes them away.
"""

from __future__ import annotations

import errno
import os
import time
from ipaddress import ip_address

from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket

_LOOKS, _PAUSE = 1000, 0.001  # at most, and seconds between two


class Home:
    """The listeners' addresses, added when they are first asked for, in the network namespace of the maker's thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._there: set[int] = set()
        self._kernel = Route()

    def place(self, family: int) -> bytes:
        """The address of a family, packed; it is there. Raises KernelUnavailable."""
        address = self._settings.address(family)
        if family not in self._there:
            try:
                self._kernel.add(address)
            except OSError as error:
                reason = error.strerror or os.strerror(error.errno or 0)
                what = f"adding {ip_address(address)} to the loopback interface failed ({reason})"
                raise KernelUnavailable(f"userspace: {what}: give the agent CAP_NET_ADMIN; it is retried") from error
            self._there.add(family)
        return address

    def forget(self) -> None:
        """Another program may have taken them away: they are added again if need be."""
        self._there.clear()

    def close(self) -> None:
        self._kernel.close()


class Route:
    """The kernel's side of addresses, in the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NetlinkProtocol.ROUTE)

    def add(self, address: bytes) -> None:
        """The address is there afterwards, and packets find it. Raises OSError."""
        self._ask(rt.NEW_ADDRESS, wire.CREATE | rt.REPLACE, _body(address))
        for _ in range(_LOOKS):  # an IPv6 address is routed by a worker of the kernel, a moment later
            if self._routed(address):
                return
            time.sleep(_PAUSE)
        raise OSError(errno.ETIMEDOUT, "the kernel does not route it to itself")

    def _routed(self, address: bytes) -> bool:
        try:
            (answer,) = self._socket.ask(wire.frame(rt.GET_ROUTE, wire.REQUEST, 1, rt.route(address)))
        except OSError:
            return False  # no route at all
        return rt.is_local(answer.body)

    def remove(self, address: bytes) -> bool:
        """Whether it was there. Raises OSError."""
        try:
            self._ask(rt.DEL_ADDRESS, 0, _body(address))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENODEV):
                return False
            raise
        return True

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        """It is done afterwards. Raises OSError."""
        for _ in self._socket.ask(wire.frame(kind, flags | wire.REQUEST | wire.ACK, 1, body)):
            pass

    def close(self) -> None:
        self._socket.close()


def _body(address: bytes) -> bytes:
    """No other machine reaches it, and the kernel never chooses it as a source: by scope, or as deprecated."""
    if len(address) == 16:
        return rt.address(rt.Address(6, address, rt.LOOPBACK), deprecated=True)
    return rt.address(rt.Address(4, address, rt.LOOPBACK), rt.HOST)
