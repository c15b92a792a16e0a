"""Sockets as userspace mode needs them: where they are bound, how they connect, how they end.

Every socket is non-blocking. Those towards endpoints carry the packet mark that redirects leave alone. Called in the
proxy's thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from functools import lru_cache
from ipaddress import ip_address

from deltaplane.forwarding import Target
from deltaplane.model import Protocol
from nodeagent.dataplane.userspace.plan import Port
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.linux import socket_filter as filters

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
KINDS: dict[int, int] = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}
SO_MARK = 36
KEEPALIVE = 30  # seconds of silence after which a peer is asked whether it is there, and again
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


def listening(port: Port, place: tuple[bytes, int], settings: Settings) -> socket.socket:
    """A socket bound to this address and number (0: any), hearing only the sources the port allows. Raises OSError."""
    made = socket.socket(FAMILIES[port.family], KINDS[port.protocol])
    try:
        made.setblocking(False)
        if port.family == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if port.protocol == socket.IPPROTO_TCP:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port.ranges:
            _filter(made, port)
        made.bind((_text(place[0]), place[1]))
        if port.protocol == socket.IPPROTO_TCP:
            tune(made)  # what it accepts takes after it
            made.listen(settings.backlog)
    except OSError:
        made.close()
        raise
    return made


def _filter(made: socket.socket, port: Port) -> None:
    try:
        filters.attach(made, filters.allowing(port.family, port.ranges))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"source ranges: {error}") from error


def upstream(port: Port, target: Target, mark: int) -> tuple[socket.socket, int]:
    """A socket on its way to an endpoint, and the errno of that: 0 or EINPROGRESS while it may work. Raises OSError."""
    made = socket.socket(FAMILIES[port.family], KINDS[port.protocol])
    try:
        made.setblocking(False)
        with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN there are no redirects to be spared from
            made.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        if port.protocol == socket.IPPROTO_TCP:
            tune(made)
        return made, made.connect_ex((_text(target.address), target.port))
    except OSError:
        made.close()
        raise


@lru_cache(maxsize=8192)
def _text(address: bytes) -> str:
    return str(ip_address(address))


def tune(made: socket.socket) -> None:
    """Nothing waits for more to send, and a peer that is gone without a word is found out within minutes."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE)


def reset(connection: socket.socket) -> None:
    """Closes at once; the peer hears of it as a reset."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


def reason(error: OSError) -> str:
    """What went wrong, for an operator."""
    return error.strerror or os.strerror(error.errno or 0)
