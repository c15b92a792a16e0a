"""The netlink socket: the only module here that does I/O, and the seam that its in-memory twin shares.

Netlink handles a request while `send` runs, so every answer is waiting when it returns and reading never blocks. A
socket belongs to the network namespace of the thread that made it.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.program.nftables import wire

NETLINK_NETFILTER = 12
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
SEND_BUFFER, RECEIVE_BUFFER = 64 << 20, 8 << 20  # bytes; ceilings for one transaction and its errors, not allocations
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_LISTING_TIMEOUT = 30.0  # seconds


class Unanswered(KernelUnavailable):
    """Whether a transaction was done is not known."""


class Kernel(Protocol):
    """What the dataplane needs of a kernel. Errors are those of `nodeagent.errors`."""

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        """Runs a transaction whose brackets open at sequence `first` and whose last inner message is `last`.

        Empty where it was done; else what the kernel refused. Raises KernelUnavailable where it never reached the
        kernel, Unanswered where it may have been done.
        """

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        """The messages that answer a request or a listing. Raises OSError with the kernel's errno."""

    def has(self, family: int) -> bool:
        """Whether the kernel speaks this IP version."""

    def close(self) -> None:
        """Ends the conversation."""


class NetlinkKernel:
    """The real kernel, in the network namespace of the calling thread."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            self._socket.bind((0, 0))
        except OSError as error:
            raise DataplaneUnavailable(
                f"nftables: this kernel has no netfilter netlink ({os.strerror(error.errno or 0)}): "
                "load the module nf_tables or choose another proxy mode"
            ) from error
        self._ipv6 = Path("/proc/thread-self/net/if_inet6").exists()
        _enlarge(self._socket)

    @property
    def port(self) -> int:
        """What the kernel calls this socket; its notifications name it."""
        return int(self._socket.getsockname()[0])

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        try:
            self._socket.send(batch)
        except OSError as error:
            reason = f"sending a transaction of {len(batch)} bytes failed ({os.strerror(error.errno or 0)})"
            raise KernelUnavailable(f"nftables: {reason}; it is retried") from error
        return self._replies(first, last)

    def _replies(self, first: int, last: int) -> list[wire.Reply]:
        """What was refused. The last message's own answer, good or bad, comes last of all."""
        refused: list[wire.Reply] = []
        while (data := self._waiting()) is not None:
            for message in wire.messages(data):
                if message.type != wire.ERROR or not first <= message.sequence <= last:
                    continue  # what a call that raised left behind
                answer = wire.reply(message)
                if answer.errno:
                    refused.append(answer)
                if answer.sequence == last:
                    return refused
        if not refused:
            raise Unanswered("nftables: the kernel did not acknowledge a transaction; it is retried")
        return refused

    def _waiting(self) -> bytes | None:
        """The next datagram that is already there."""
        try:
            return self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise Unanswered(f"nftables: reading the kernel's answer failed ({reason}); it is retried") from error

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        self._socket.send(request)
        _, _, flags, sequence, _ = wire.HEADER.unpack_from(request)
        self._socket.settimeout(_LISTING_TIMEOUT)
        try:
            yield from self._answers(sequence, listing=bool(flags & wire.DUMP))
        finally:
            self._socket.settimeout(None)  # with a timeout, Python would wait where `_waiting` must not

    def _answers(self, sequence: int, *, listing: bool) -> Iterator[wire.Message]:
        while True:
            for message in wire.messages(self._socket.recv(1 << 20)):
                if message.sequence != sequence:
                    continue
                if message.type in (wire.ERROR, wire.DONE):
                    code = -int.from_bytes(message.body[:4], sys.byteorder, signed=True)
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield message
                if not listing:
                    return

    def has(self, family: int) -> bool:
        return family == 4 or self._ipv6

    def close(self) -> None:
        self._socket.close()


def _enlarge(connection: socket.socket) -> None:
    """Room for big transactions; without CAP_NET_ADMIN the system's limits stay, and the first request says why."""
    for option, size in ((_SO_SNDBUFFORCE, SEND_BUFFER), (_SO_RCVBUFFORCE, RECEIVE_BUFFER)):
        try:
            connection.setsockopt(socket.SOL_SOCKET, option, size)
        except PermissionError:
            break
    for option in (CAP_ACK, EXT_ACK):
        connection.setsockopt(SOL_NETLINK, option, 1)


def unavailable(error: OSError, table: str) -> DataplaneUnavailable:
    """The operator's text for a kernel that will not even be asked."""
    if error.errno in (errno.EPERM, errno.EACCES):
        advice = "give the agent CAP_NET_ADMIN in this network namespace"
    elif error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
        advice = "this kernel has no nf_tables: load the module or choose another proxy mode"
    else:
        advice = "look at the kernel log"
    return DataplaneUnavailable(
        f"nftables: asking for table {table} failed ({os.strerror(error.errno or 0)}): {advice}"
    )
