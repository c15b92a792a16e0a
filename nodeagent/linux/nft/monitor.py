"""The socket that hears of every change of nftables in this network namespace: I/O only, `watch` judges.

Notifications of our own transactions are dropped inside the kernel, so that this costs nothing while no other program
touches nftables, however much we write. The kernel still makes one for each element while any socket listens, which
doubles its time for a cold load: for that the monitor leaves and compares generations (`watch`).
"""

from __future__ import annotations

import sys
from typing import Protocol

from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.kernel import NetlinkKernel
from nodeagent.linux.socket_filter import ALL, JUMP_EQUAL, LOAD, RETURN

GROUP = 7  # NFNLGRP_NFTABLES
_BUFFER = 8 << 20  # bytes; a ceiling
_PORT_OFFSET = 12  # of nlmsg_pid in nlmsghdr


class Monitor(Protocol):
    """What the dataplane needs to know of others' changes."""

    own: int  # the netlink port of our own changes

    def fileno(self) -> int:
        """Readable when something was said."""

    def heard(self) -> list[wire.Message] | None:
        """What was said since the last call, without waiting; None where some of it was lost."""

    def leave(self) -> None:
        """Hears nothing from now on; what was said before stays to be heard."""

    def join(self) -> None:
        """Hears again."""

    def generation(self) -> int:
        """How many transactions this network namespace has seen, 32 bits; one that changed nothing is none."""

    def close(self) -> None:
        """Hears no more."""


class Notifications:
    """The socket itself, in the network namespace of the calling thread. Raises OSError."""

    def __init__(self, ignored: int = 0) -> None:
        self._socket = NetlinkSocket(NetlinkProtocol.NETFILTER, receive_buffer=_BUFFER)
        try:
            self.ignore(ignored)
            self.join()
        except OSError:
            self._socket.close()
            raise

    def ignore(self, port: int) -> None:
        """Drops from now on what this netlink port does, and that alone; the filter reads words as big-endian ones."""
        word = int.from_bytes(port.to_bytes(4, sys.byteorder), "big")
        steps = [(LOAD, 0, 0, _PORT_OFFSET), (JUMP_EQUAL, 0, 1, word), (RETURN, 0, 0, 0), (RETURN, 0, 0, ALL)]
        self._socket.attach(steps)

    def fileno(self) -> int:
        return self._socket.fileno()

    def heard(self) -> list[wire.Message] | None:
        """What was said since the last call, without waiting; None where some of it was lost."""
        found, whole = self._socket.heard()
        return [message for data in found for message in wire.messages(data)] if whole else None

    def leave(self) -> None:
        self._socket.leave(GROUP)

    def join(self) -> None:
        self._socket.join(GROUP)

    def close(self) -> None:
        self._socket.close()


class NetlinkMonitor(Notifications):
    """The real monitor, beside the kernel that our own changes go to. Raises OSError."""

    def __init__(self, kernel: NetlinkKernel) -> None:
        self.own = kernel.port
        self._kernel = kernel
        super().__init__(self.own)

    def generation(self) -> int:
        (answer,) = self._kernel.ask(wire.request(objects.GET_GENERATION, 0, 0, 0, b""))
        return wire.as_number(wire.attributes(answer.body)[1])
