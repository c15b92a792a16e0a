"""Commit, read again, blame one object, repair: the one loop that makes a kernel say what is wanted, for every driver.

A driver (`api.Driver`) knows its kernel's words and nothing of this. Called by the agent from one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.api import Driver
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.outcome import Commit, Drifted, Failed, Round, Sent
from nodeagent.dataplane.tracker import NODE
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable, Unsure

READINGS = 4  # of the kernel in a row, before what it then contradicts is taken for refused
S = TypeVar("S")  # the driver's settings
T = TypeVar("T")

log = logging.getLogger(__name__)


class Reconciler(Generic[S]):
    """Implements `nodeagent.dataplane.api.Dataplane` with a driver."""

    def __init__(self, driver: Driver[S]) -> None:
        self.mode = driver.mode
        self._driver = driver
        self._invalid: dict[ObjectKey, Failed] = {}  # no kernel could hold these; their last form stays
        self._left = LeftOut(driver.mode)
        self._complete = False  # there was a complete apply
        self._unsure = False  # the last round may have been done or not

    @property
    def adopted(self) -> bool:
        """Whether `start` found anything of ours in the kernel."""
        return self._driver.adopted

    def start(self) -> None:
        """Adopts what the kernel already holds, without changing it. Raises DataplaneUnavailable."""
        try:
            self._driver.open(self._left)
            self._driver.read()
        except DataplaneUnavailable:
            self._driver.close()
            raise
        except KernelUnavailable as error:
            self._driver.close()
            raise DataplaneUnavailable(str(error)) from error

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        """See `Dataplane.apply`."""
        if node is not None:
            self._take(NODE, self._driver.put_node, node)
        for service in services:
            self._take(service.key, self._put, service)
        if complete:
            self._retire(services)
        return self._write(again=self._unsure)

    def repair(self) -> Commit:
        """Compares the kernel with what is wanted and writes what differs. Raises KernelUnavailable."""
        return self._write(again=True)

    def configure(self, settings: S) -> Commit:
        """Takes other settings from now on, such as a node's new CIDRs; writes what differs by them.

        Raises ValueError, changing nothing, for settings that are none, KernelUnavailable as `apply`.
        """
        self._driver.configure(settings)
        return self.repair()

    def pending(self) -> bool:
        """True while something wanted is not in the kernel."""
        return bool(self._invalid or self._unsure or self._driver.pending())

    def fileno(self) -> int:
        """Readable when another program changed the kernel's tables; -1 where that cannot be heard."""
        return self._driver.fileno()

    def drifted(self) -> bool:
        """Whether another program changed what is ours since the last repair. Call when `fileno` is readable."""
        return self._driver.drifted()

    def close(self) -> None:
        """Lets go of the kernel; what was programmed stays."""
        self._driver.close()

    # ------------------------------------------------------------ what is wanted

    def _put(self, service: ServiceForwarding) -> None:
        self._driver.put(service)
        self._left.note(service)

    def _take(self, key: ObjectKey, put: Callable[[T], None], value: T) -> None:
        """Takes one object; a bad one is its own failure."""
        if self._invalid:
            self._invalid.pop(key, None)
        try:
            put(value)
        except (ValueError, OverflowError, KeyError) as error:
            text = f"service or pod CIDRs: {error}: correct them" if key is NODE else f"{key}: {error}"
            self._invalid[key] = Failed(key, "INVALID_OBJECT", text)

    def _retire(self, services: Iterable[ServiceForwarding]) -> None:
        """Everything that is not wanted by these Services is to go."""
        self._complete = True
        kept = {NODE, *(service.key for service in services)}
        self._left.keep(kept)
        for owner in self._driver.owners():
            if owner not in kept:
                self._driver.remove(owner)
        self._invalid = {owner: failed for owner, failed in self._invalid.items() if owner in kept}
        self._driver.retire()

    # ------------------------------------------------------------ the kernel

    def _write(self, *, again: bool) -> Commit:
        """Brings the kernel to what is wanted; where it contradicts us, reads it and tries again.

        Others may be at it still, as who deletes one family's table and then the other's: the last time the driver is
        to call refused what the kernel contradicts.
        """
        sent = Sent()
        readings = 0
        while True:
            try:
                if again:
                    readings += 1
                    self._read_again()
                self._once(sent, Round(self._complete, again=again, last=readings == READINGS))
                break
            except Drifted as error:
                if readings == READINGS:
                    raise KernelUnavailable(f"{self.mode}: somebody else keeps changing what is ours") from error
                log.warning("%s: somebody else changed what is ours, reading it again", self.mode)
                again = True
        if again:
            self._driver.repaired(fruitful=bool(sent.messages))
        return Commit(messages=sent.messages, elements=sent.elements, size=sent.size, failed=self._failures())

    def _read_again(self) -> None:
        self._unsure = True  # a reading that fails halfway leaves the driver with a part of what the kernel has
        self._driver.read()
        if self._complete:
            self._driver.retire()

    def _once(self, sent: Sent, this: Round) -> None:
        self._unsure = False
        try:
            self._driver.write(sent, this)
        except Unsure:
            self._unsure = True
            raise

    def _failures(self) -> tuple[Failed, ...]:
        """Every object that is not in the kernel as it should be, each once."""
        found: dict[ObjectKey, Failed] = {}
        for failed in (*self._invalid.values(), *self._driver.failures(), *self._left.failures()):
            found.setdefault(failed.key, failed)
        return tuple(found.values())
