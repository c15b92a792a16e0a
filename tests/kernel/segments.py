"""Segments put into somebody's TCP stream: as a path that reorders, or an attacker, does it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import NamedTuple

from tools.lab.netns import Namespace

AHEAD = 2_000_000  # bytes of sequence numbers: outside of every window
FAR = b"far ahead"
_ACK, _PUSH, _RESET = 0x10, 0x08, 0x04
_CHECKSUM = 16  # its offset in the header


class Segment(NamedTuple):
    """The head of one that arrived."""

    source: int
    destination: int
    sequence: int
    acknowledged: int
    flags: int
    length: int  # of its payload
    sender: str

    @property
    def reset(self) -> bool:
        return bool(self.flags & _RESET)


class Tap:
    """Hears what arrives at one port of a machine, and sends segments from it."""

    def __init__(self, space: Namespace, family: int, port: int) -> None:
        self._family, self._port = family, port
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self._socket = space.socket(kind, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self._socket.setblocking(False)

    def heard(self) -> Iterator[Segment]:
        """All that arrived since the last time."""
        while True:
            try:
                data, sender = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            segment = _read(data[(data[0] & 15) * 4 :] if self._family == 4 else data, sender[0])
            if segment.destination == self._port:
                yield segment

    def inject(self, last: Segment, own: str) -> None:
        """Answers the client's last segment far ahead in the stream. `own`: the address of this machine."""
        head = struct.pack(
            ">HHIIBBHHH", self._port, last.source, (last.acknowledged + AHEAD) % 2**32,
            (last.sequence + last.length) % 2**32, 5 << 4, _ACK | _PUSH, 512, 0, 0,
        )  # fmt: skip
        packet = head + FAR
        packet = packet[:_CHECKSUM] + _checksum(packet, own, last.sender) + packet[_CHECKSUM + 2 :]
        self._socket.sendto(packet, (last.sender, 0))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def tapped(space: Namespace, family: int, port: int) -> Iterator[Tap]:
    tap = Tap(space, family, port)
    try:
        yield tap
    finally:
        tap.close()


def _read(data: bytes, sender: str) -> Segment:
    source, destination, sequence, acknowledged, size, flags = struct.unpack_from(">HHIIBB", data)
    return Segment(source, destination, sequence, acknowledged, flags, len(data) - (size >> 4) * 4, sender)


def _checksum(packet: bytes, source: str, destination: str) -> bytes:
    """RFC 9293; with the pseudo-header of the family."""
    ends = ip_address(source).packed + ip_address(destination).packed
    covered = ends + struct.pack(">II", len(packet), socket.IPPROTO_TCP) + packet  # one sum for both
    covered += bytes(len(covered) % 2)
    total = sum(struct.unpack(f">{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)
