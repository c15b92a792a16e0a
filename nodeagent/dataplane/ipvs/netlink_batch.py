"""Carries messages to the kernel, many in one write, and counts them. Called by everything that writes.

The kernel handles each message for itself: one that is refused does not hold back the others.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nodeagent.dataplane.ipvs import sets
from nodeagent.dataplane.ipvs.kernel import Channel, Kernel, Refusal
from nodeagent.dataplane.outcome import Sent
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire

PER_WRITE = 128  # messages: were all of them refused, the refusals would still fit the socket's buffer
BYTES_PER_WRITE = 1 << 20
_NOBODYS = (errno.EPERM, errno.EACCES, errno.ENOBUFS, errno.ENOMEM)  # no object's fault: the kernel as a whole


class Order(NamedTuple):
    """One message: the command, netlink's flags beside those for asking, and what follows the header."""

    command: int
    body: bytes
    flags: int = 0


class NetlinkBatch:
    """To one kernel. What is sent is counted in `sent`; `unrestored`: failed restores, by family."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.sent = Sent()
        self.unrestored: Counter[int] = Counter()
        self._sequence = 1

    def count_in(self, sent: Sent) -> None:
        """Counts in this from now on."""
        self.sent = sent

    def send(self, channel: Channel, orders: Sequence[Order]) -> dict[int, int]:
        """The refused ones: errno by their place. Raises KernelUnavailable where the kernel refuses us altogether."""
        refused: dict[int, int] = {}
        for start, end in _writes(orders):
            first = self._sequence + 1
            self._sequence += end - start
            packed = [
                self._packed(channel, order, first + n, wire.ACK if start + n == end - 1 else 0)
                for n, order in enumerate(orders[start:end])
            ]
            for sequence, code in self._carry(channel, packed):
                refused[start + sequence - first] = code
        return {place: code for place, code in refused.items() if place >= 0}  # else what a call that raised has left

    def restore(self, family: int, text: str) -> None:
        """Rules, by `iptables-restore`. Raises OSError with what that complained about."""
        try:
            self.kernel.restore(family, text)
        except OSError:
            self.unrestored[family] += 1
            raise

    def _carry(self, channel: Channel, packed: list[bytes]) -> Iterator[Refusal]:
        data = b"".join(packed)
        self.sent.messages += len(packed)
        self.sent.size += len(data)
        for refusal in self.kernel.send(channel, data, self._sequence):
            if refusal.code in _NOBODYS:
                raise KernelUnavailable(f"ipvs: the kernel refuses ({os.strerror(refusal.code)}); it is retried")
            yield refusal

    def ask(self, channel: Channel, order: Order, *, listing: bool = True) -> Iterator[bytes]:
        """The bodies of the answer, without the header of their kind. Raises OSError."""
        self._sequence += 1
        request = self._packed(channel, order, self._sequence, wire.DUMP if listing else 0)
        self.sent.messages += 1
        self.sent.size += len(request)
        skipped = 0 if channel is Channel.ROUTE else wire.GENERIC.size
        for body in self.kernel.ask(channel, request):
            yield body[skipped:]

    def _packed(self, channel: Channel, order: Order, sequence: int, flags: int) -> bytes:
        flags |= order.flags
        if channel is Channel.ROUTE:
            return wire.frame(order.command, flags | wire.REQUEST, sequence, order.body)
        if channel is Channel.SETS:
            return sets.request(order.command, sequence, order.body, flags)
        return wire.message((self.kernel.ipvs, flags | wire.REQUEST, sequence), order.command, order.body)


def _writes(orders: Sequence[Order]) -> Iterator[tuple[int, int]]:
    """The slices that go in one write each."""
    start = size = 0
    for place, order in enumerate(orders):
        if place > start and (place - start >= PER_WRITE or size + len(order.body) > BYTES_PER_WRITE):
            yield start, place
            start, size = place, 0
        size += len(order.body)
    if start < len(orders):
        yield start, len(orders)


def reason(code: int) -> str:
    """What an errno means, ipset's own included."""
    return sets.ERRORS.get(code) or os.strerror(code)
