"""The conversation with nf_tables: sends transactions and asks; tests have the same in memory.

The kernel handles a transaction while `send` runs, so every answer is waiting when it returns and reading never blocks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nodeagent.linux.errors import DataplaneUnavailable, KernelUnavailable, Unsure
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket

SEND_BUFFER, RECEIVE_BUFFER = 64 << 20, 8 << 20  # bytes; ceilings for one transaction and its errors, not allocations


class Kernel(Protocol):
    """What the dataplane needs of a kernel. Errors are those of `nodeagent.errors`."""

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        """Runs a transaction whose brackets open at sequence `first` and whose last inner message is `last`.

        Empty where it was done; else what the kernel refused. Raises KernelUnavailable where it never reached the
        kernel, Unsure where it may have been done.
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
            self._socket = NetlinkSocket(
                NetlinkProtocol.NETFILTER, send_buffer=SEND_BUFFER, receive_buffer=RECEIVE_BUFFER, extended=True
            )
        except OSError as error:
            raise DataplaneUnavailable(
                f"nftables: this kernel has no netfilter netlink ({os.strerror(error.errno or 0)}): "
                "load the module nf_tables or choose another proxy mode"
            ) from error
        self._ipv6 = Path("/proc/thread-self/net/if_inet6").exists()

    @property
    def port(self) -> int:
        """What the kernel calls this socket; its notifications name it."""
        return self._socket.port

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
        try:
            for answer in self._socket.refused(first, last, wait=False):
                if answer.errno:
                    refused.append(answer)
                if answer.sequence == last:
                    return refused
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise Unsure(f"nftables: reading the kernel's answer failed ({reason}); it is retried") from error
        if not refused:
            raise Unsure("nftables: the kernel did not acknowledge a transaction; it is retried")
        return refused

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        return map(wire.message_of, self._socket.ask(request))

    def has(self, family: int) -> bool:
        return family == 4 or self._ipv6

    def close(self) -> None:
        self._socket.close()


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
