"""The listeners' own addresses on the loopback interface, by rtnetlink (`linux/rtnetlink.h`, `linux/if_addr.h`).

No other machine has a route to them, the kernel never chooses them as a source (host scope; deprecated), and a redirect
there works behind interfaces without an address. `dataplane` adds them, `cleanup` takes them away.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from ipaddress import ip_address
from struct import pack

from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket
from nodeagent.program.userspace.settings import Settings

_NEW, _DELETE = 20, 21  # RTM_NEWADDR, RTM_DELADDR
_GET_ROUTE, _DESTINATION, _TYPE, _LOCAL_ROUTE = 26, 1, 7, 2  # RTM_GETROUTE, RTA_DST, rtm_type's place, RTN_LOCAL
_LOOKS, _PAUSE = 1000, 0.001  # at most, and seconds between two
_REPLACE = 0x100
_NODAD, _HOST = 0x02, 254  # IFA_F_NODAD, RT_SCOPE_HOST
_ADDRESS, _LOCAL, _CACHE = 1, 2, 6
_FOR_EVER = 0xFFFFFFFF
LOOPBACK = 1  # the interface's number, the same in every network namespace


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
        """Somebody else may have taken them away: they are added again if need be."""
        self._there.clear()

    def close(self) -> None:
        self._kernel.close()


class Route:
    """The kernel's side of addresses, in the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NetlinkProtocol.ROUTE)

    def add(self, address: bytes) -> None:
        """The address is there afterwards, and packets find it. Raises OSError."""
        self._ask(_NEW, wire.CREATE | _REPLACE, request(_NEW, address))
        for _ in range(_LOOKS):  # an IPv6 address is routed by a worker of the kernel, a moment later
            if self._routed(address):
                return
            time.sleep(_PAUSE)
        raise OSError(errno.ETIMEDOUT, "the kernel does not route it to itself")

    def _routed(self, address: bytes) -> bool:
        try:
            (answer,) = self._socket.ask(wire.frame(_GET_ROUTE, wire.REQUEST, 1, route_request(address)))
        except OSError:
            return False  # no route at all
        return answer.body[_TYPE] == _LOCAL_ROUTE

    def remove(self, address: bytes) -> bool:
        """Whether it was there. Raises OSError."""
        try:
            self._ask(_DELETE, 0, request(_DELETE, address))
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


def request(kind: int, address: bytes, interface: int = LOOPBACK) -> bytes:
    """The message behind its header."""
    six = len(address) == 16
    family, scope = (socket.AF_INET6, 0) if six else (socket.AF_INET, _HOST)
    head = pack("=BBBBI", family, 8 * len(address), _NODAD if six else 0, scope, interface)
    parts = wire.attribute(_LOCAL, address) + wire.attribute(_ADDRESS, address)
    if six and kind == _NEW:
        parts += wire.attribute(_CACHE, pack("=IIII", 0, _FOR_EVER, 0, 0))  # never preferred, valid for ever
    return head + parts


def route_request(address: bytes) -> bytes:
    """Asks where packets to an address go: the message behind its header."""
    family = socket.AF_INET6 if len(address) == 16 else socket.AF_INET
    return pack("=BBBBBBBBI", family, 8 * len(address), 0, 0, 0, 0, 0, 0, 0) + wire.attribute(_DESTINATION, address)
