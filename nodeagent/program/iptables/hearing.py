"""The socket on which the kernel tells of every change of the nft flavour's tables: I/O only, `drift` judges.

What one process does, our own restore, is dropped inside the kernel, so that our changes cost nothing to hear.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from struct import pack

from nodeagent.program.nftables import wire
from nodeagent.program.nftables.kernel import NETLINK_NETFILTER, SOL_NETLINK

_GROUP = 7  # NFNLGRP_NFTABLES
_ADD_MEMBERSHIP = 1
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_BUFFER = 8 << 20  # bytes; a ceiling
_PORT_OFFSET = 12  # of nlmsg_pid in nlmsghdr
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K


class Hearing:
    """In the network namespace of the calling thread. Raises OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        except OSError:
            self._socket.close()
            raise

    def ignore(self, port: int) -> None:
        """Drops from now on what this netlink port does; the filter reads words as big-endian ones."""
        word = int.from_bytes(port.to_bytes(4, sys.byteorder), "big")
        steps = (
            (_LOAD, 0, 0, _PORT_OFFSET),
            (_JUMP_EQUAL, 0, 1, word),
            (_RETURN, 0, 0, 0),
            (_RETURN, 0, 0, 0xFFFFFFFF),
        )
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

    def close(self) -> None:
        self._socket.close()
