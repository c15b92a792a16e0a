"""What other programs did to a table of ours, judged from the kernel's notifications, which `monitor` receives."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.expressions import NFPROTO
from nodeagent.linux.nft.kernel import Kernel, NetlinkKernel
from nodeagent.linux.nft.monitor import Monitor, NetlinkMonitor

log = logging.getLogger(__name__)

_FAMILIES = {number: family for family, number in NFPROTO.items()}
_ELEMENTS = (objects.NEW_ELEMENT, objects.DELETE_ELEMENT)


class Damage(IntEnum):
    """How much of a table must be looked at."""

    ELEMENTS = 1  # compare and write what differs
    STRUCTURE = 2  # rules, chains or sets: the table is to be replaced


Weigh = Callable[[str], Damage | None]
"""What it means that another program changed an element of the set of this name; None: nothing."""


def any_element(_: str) -> Damage:
    """For a table of whose sets all are compared."""
    return Damage.ELEMENTS


def damage(messages: Iterable[wire.Message], table: str, own: int, weigh: Weigh = any_element) -> dict[int, Damage]:
    """The damaged families of a table. `own` is the netlink port of our own changes."""
    found: dict[int, Damage] = {}
    for message in messages:
        family, kind = _FAMILIES.get(message.family), message.type & 0xFF
        if (
            family is None
            or message.port == own
            or message.type >> 8 != wire.SUBSYSTEM
            or kind == objects.NEW_GENERATION
        ):
            continue  # a new generation says which program it was and names no table
        attributes = wire.attributes(message.body)
        if wire.as_text(attributes.get(1, b"")) != table:
            continue
        name = wire.as_text(attributes.get(2, b""))
        much = weigh(name) if kind in _ELEMENTS else Damage.STRUCTURE
        if much is not None:
            found[family] = max(much, found.get(family, much))
    return found


class Watch:
    """What is known of others' changes to a table; without a monitor, nothing ever is."""

    def __init__(self, monitor: Monitor | None, table: str, weigh: Weigh = any_element) -> None:
        self.monitor = monitor
        self.damage: dict[int, Damage] = {}  # by family, until it is repaired
        self._table, self._weigh = table, weigh

    def fileno(self) -> int:
        return -1 if self.monitor is None else self.monitor.fileno()

    def drifted(self, families: Iterable[int]) -> bool:
        """Takes in what was said; where some of that was lost, every family is suspect."""
        if self.monitor is not None:
            heard = self.monitor.heard()
            found = dict.fromkeys(families, Damage.ELEMENTS) if heard is None else {}
            found = found or damage(heard or (), self._table, self.monitor.own, self._weigh)
            for family, much in found.items():
                self.damage[family] = max(much, self.damage.get(family, much))
        return bool(self.damage)

    @contextmanager
    def away(self, own: Callable[[], int], families: Iterable[int]) -> Iterator[None]:
        """Does not listen for as long as much is written; `own` counts our transactions.

        Where there were others besides them, maybe at our tables, every family is suspect. Raises OSError.
        """
        if self.monitor is None:
            yield
            return
        before = self.monitor.generation() - own()
        self.monitor.leave()
        try:
            yield
        finally:
            self.monitor.join()
            if (self.monitor.generation() - own() - before) & 0xFFFF_FFFF:
                for family in families:
                    self.damage.setdefault(family, Damage.ELEMENTS)

    def close(self) -> None:
        """Hears no more."""
        if self.monitor is not None:
            self.monitor.close()


def listen(mode: str, kernel: Kernel, table: str, weigh: Weigh = any_element, monitor: Monitor | None = None) -> Watch:
    """The watch of a table, by this monitor or that of the real kernel; warns where that cannot be had."""
    if monitor is None and isinstance(kernel, NetlinkKernel):
        try:
            monitor = NetlinkMonitor(kernel)
        except OSError as error:
            log.warning("%s: what others change will not be noticed (%s)", mode, os.strerror(error.errno or 0))
    return Watch(monitor, table, weigh)
