"""A netlink socket: the one place that opens AF_NETLINK. It reads the header of messages, and nothing behind it.

The kernel handles a request while `send` runs, so an answer is waiting when it returns. A socket belongs to the network
namespace of the thread that made it, whichever thread uses it later. Everything raises OSError with the kernel's errno.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import IntEnum
from struct import pack

from nodeagent.linux import socket_filter
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.wire import Frame

TIMEOUT = 30.0  # seconds, for an answer that is due at once
_SOL_NETLINK, _ADD_MEMBERSHIP, _DROP_MEMBERSHIP, _CAP_ACK, _EXT_ACK = 270, 1, 2, 10, 11  # linux/netlink.h
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
_DATAGRAM = 1 << 16  # bytes; the kernel fills at most 32 KiB of it


class NetlinkProtocol(IntEnum):
    """The kinds of netlink in use (`linux/netlink.h`)."""

    ROUTE = 0
    NETFILTER = 12
    GENERIC = 16


class NetlinkSocket:
    """Bound, so that the kernel can tell it something; with short acknowledgements, where the kernel has them.

    `send_buffer` and `receive_buffer` are ceilings in bytes, not allocations; without CAP_NET_ADMIN the system's own
    limits stay. `extended`: refusals name the bad attribute.
    """

    def __init__(
        self,
        protocol: NetlinkProtocol,
        groups: Iterable[int] = (),
        *,
        send_buffer: int = 0,
        receive_buffer: int = 0,
        extended: bool = False,
    ) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._set_up(send_buffer, receive_buffer, extended=extended)
            self._socket.bind((0, 0))
            for group in groups:
                self.join(group)
        except OSError:
            self._socket.close()
            raise

    def _set_up(self, send_buffer: int, receive_buffer: int, *, extended: bool) -> None:
        for option, size in ((_SO_SNDBUFFORCE, send_buffer), (_SO_RCVBUFFORCE, receive_buffer)):
            if size:
                with suppress(PermissionError):
                    self._socket.setsockopt(socket.SOL_SOCKET, option, size)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        if extended:
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pack("@ll", int(TIMEOUT), 0))

    @property
    def port(self) -> int:
        """What the kernel calls this socket; notifications of what it did name it."""
        return int(self._socket.getsockname()[0])

    def fileno(self) -> int:
        """Readable when something waits."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    # ------------------------------------------------------------ asking

    def send(self, data: bytes) -> None:
        """Hands over messages, which the kernel handles before this returns."""
        self._socket.send(data)

    def receive(self) -> bytes:
        """The next datagram; TimeoutError after `TIMEOUT`."""
        try:
            return self._socket.recv(_DATAGRAM)
        except BlockingIOError as error:
            raise TimeoutError(errno.ETIMEDOUT, "the kernel gave no answer") from error

    def ask(self, request: bytes) -> Iterator[Frame]:
        """The messages that answer one request: all, where it lists or wants an acknowledgement; else the first."""
        self.send(request)
        _, _, flags, sequence, _ = wire.HEADER.unpack_from(request)
        return self.answers(sequence, single=not flags & (wire.DUMP | wire.ACK))

    def answers(self, sequence: int, *, single: bool = False) -> Iterator[Frame]:
        """What follows a request of this number; others' answers, which a caller that gave up has left, are skipped."""
        for data in self._endless():
            for frame in wire.frames(data):
                if frame.sequence != sequence:
                    continue
                if frame.type in (wire.ERROR, wire.DONE):
                    _check(frame)
                    return
                yield frame
                if single:
                    return

    def refused(self, first: int, last: int, *, wait: bool = True) -> Iterator[wire.Reply]:
        """What the kernel says of the messages `first` to `last`, of which the last asked for an answer; 0 is done.

        Without `wait`, ends where nothing is there to be read.
        """
        for data in self._endless() if wait else self.waiting():
            for frame in wire.frames(data):
                if frame.type != wire.ERROR or not first <= frame.sequence <= last:
                    continue  # what a call that raised has left behind
                yield wire.reply(frame)
                if frame.sequence == last:
                    return

    def _endless(self) -> Iterator[bytes]:
        while True:
            yield self.receive()

    # ------------------------------------------------------------ hearing

    def join(self, group: int) -> None:
        """Hears what the kernel tells a multicast group."""
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def leave(self, group: int) -> None:
        """Hears it no more; what was said before stays to be read."""
        self._socket.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, group)

    def waiting(self) -> Iterator[bytes]:
        """The datagrams that are there already. ENOBUFS: some were lost, once for each time the buffer was full."""
        while True:
            try:
                data = self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield data

    def heard(self) -> tuple[list[bytes], bool]:
        """All that waits, and whether nothing was lost before it."""
        found: list[bytes] = []
        whole = True
        while True:
            try:
                found += self.waiting()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                whole = False
            else:
                return found, whole

    def attach(self, steps: list[socket_filter.Step]) -> None:
        """A program that says which messages are heard."""
        socket_filter.attach(self._socket, steps)


def _check(frame: Frame) -> None:
    code = wire.errno_of(frame)
    if code > 0:
        raise OSError(code, os.strerror(code))
