"""The socket that hears of every change of nftables in this network namespace: I/O only, `drift` judges.

Notifications of our own transactions are dropped inside the kernel, so that this costs nothing while nobody else
touches nftables, however much we write. The kernel still makes one for each element as long as anybody listens, which
doubles its time for a cold load: for that the monitor goes away and compares generations (`drift`).
"""

from __future__ import annotations

import ctypes
import socket
import sys
from struct import pack
from typing import Protocol

from nodeagent.program.nftables import objects, wire
from nodeagent.program.nftables.kernel import NETLINK_NETFILTER, SOL_NETLINK, NetlinkKernel

GROUP = 7  # NFNLGRP_NFTABLES
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_BUFFER = 8 << 20  # bytes; a ceiling
_PORT_OFFSET = 12  # of nlmsg_pid in nlmsghdr
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K


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
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            self.ignore(ignored)
            self._socket.bind((0, 0))
            self.join()
        except OSError:
            self._socket.close()
            raise

    def ignore(self, port: int) -> None:
        """Drops from now on what this netlink port does, and that alone; the filter reads words as big-endian ones."""
        word = int.from_bytes(port.to_bytes(4, sys.byteorder), "big")
        keep, drop = (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)
        steps = ((_LOAD, 0, 0, _PORT_OFFSET), (_JUMP_EQUAL, 0, 1, word), drop, keep)
        code = ctypes.create_string_buffer(b"".join(pack("=HBBI", *step) for step in steps))
        program = pack("@HP", len(steps), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def fileno(self) -> int:
        return self._socket.fileno()

    def heard(self) -> list[wire.Message] | None:
        """What was said since the last call, without waiting; None where some of it was lost."""
        found: list[wire.Message] = []
        whole = True
        while True:
            try:
                found += wire.messages(self._socket.recv(1 << 20, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found if whole else None
            except OSError:
                whole = False  # ENOBUFS, once for each time that the buffer was full

    def leave(self) -> None:
        self._socket.setsockopt(SOL_NETLINK, _DROP_MEMBERSHIP, GROUP)

    def join(self) -> None:
        self._socket.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, GROUP)

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
