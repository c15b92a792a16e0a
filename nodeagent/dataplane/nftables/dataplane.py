"""The nftables dataplane: Services in, one atomic transaction out, writing exactly what differs.

Wires the pure parts (`tracker`, `ledger`) to `writer`, `delivery` and a kernel. Called by the agent from one thread.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Sequence

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.api import Commit, Failed, Held
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.nftables import inventory, listing, naming
from nodeagent.dataplane.nftables.delivery import Delivery, Drifted
from nodeagent.dataplane.nftables.drift import Damage, Watch
from nodeagent.dataplane.nftables.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.dataplane.nftables.monitor import Monitor, NetlinkMonitor
from nodeagent.dataplane.nftables.pending import Ledger
from nodeagent.dataplane.nftables.program import Program, program
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.dataplane.nftables.shared import is_private
from nodeagent.dataplane.nftables.tracker import NODE, Tracker
from nodeagent.dataplane.nftables.writer import MAIN, Writer
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable

log = logging.getLogger(__name__)

MANY = 500  # frontends to look at: a cold load, or nearly
READINGS = 4  # of the tables in a row, before what the kernel then contradicts is taken for refused


class NftablesDataplane:
    """Implements `nodeagent.dataplane.api.Dataplane`; without a kernel, on the calling thread's."""

    mode = "nftables"

    def __init__(
        self, kernel: Kernel | None = None, settings: Settings | None = None, monitor: Monitor | None = None
    ) -> None:
        self._given = kernel
        self._settings = settings or Settings()
        self._watch = Watch(monitor, self._settings.table)
        self._invalid: dict[ObjectKey, Failed] = {}
        self._completed = False
        self._left = LeftOut()

    @property
    def adopted(self) -> bool:
        """Whether `start` found elements of ours in the kernel."""
        return bool(self._tracker.frontends or self._delivery.foreign)

    def start(self) -> None:
        """Adopts our tables without changing them. Raises DataplaneUnavailable."""
        self._kernel = self._given or NetlinkKernel()
        deaf = self._listen()  # before anything is read
        try:
            self._adopt()
        except DataplaneUnavailable:
            self.close()
            raise
        if deaf:
            log.warning("nftables: what others change will not be noticed (%s)", deaf)

    def _listen(self) -> str:
        """Hears from now on what others change in this network namespace; gives the reason where that cannot be had."""
        if isinstance(self._kernel, NetlinkKernel) and self._watch.monitor is None:
            try:
                self._watch.monitor = NetlinkMonitor(self._kernel)
            except OSError as error:
                return os.strerror(error.errno or 0)
        return ""

    def _adopt(self) -> None:
        families = [family for family in (4, 6) if self._kernel.has(family)]
        if 6 not in families:
            self._left.leave("this kernel has no IPv6")
            log.warning("nftables: this kernel has no IPv6, the family is left out")
        try:
            self._programs = _programs(families, self._settings)
        except ValueError as error:
            raise DataplaneUnavailable(f"nftables: cluster CIDR: {error}: correct --cluster-cidr") from error
        self._tracker = Tracker(families)
        self._ledger = Ledger(self._tracker)
        self._delivery = Delivery(self._kernel, self._programs, self._settings.table)
        self._writer = Writer(self._ledger, self._delivery, self._leave_out)
        try:
            self._read()
        except OSError as error:
            raise unavailable(error, self._settings.table) from error

    def held(self) -> list[Held]:
        """See `Remembering.held`; nothing of a table that another version of the program wrote."""
        return [naming.held(frontend) for frontend in self._tracker.frontends]

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        """See `Dataplane.apply`.

        Where another version of the program (or other settings) wrote the table, nothing is written until the first
        complete apply; that one replaces the table, elements and all, in one transaction.
        """
        self._delivery.reset()
        self._take(services, node)
        if complete:
            self._retire(services)
            self._completed = True
        if self._completed or not self._delivery.foreign:
            (self._write if len(self._tracker.dirty) < MANY else self._write_much)()
        return self._commit()

    def pending(self) -> bool:
        """True while something wanted is not in the kernel."""
        return bool(self._tracker.dirty or self._tracker.dirty_members or self._invalid)

    def close(self) -> None:
        """Closes the sockets."""
        self._kernel.close()
        self._watch.close()

    def configure(self, settings: Settings) -> Commit:
        """Takes other settings from now on, such as a node's new CIDRs.

        A table is replaced in one transaction, with all elements and the clients of session affinity, so that no packet
        sees a gap; before the first complete apply, that one does it. Raises ValueError, changing nothing, for a CIDR
        that is none, KernelUnavailable as `apply`.
        """
        if settings.table != self._settings.table:
            raise ValueError(f"table {settings.table}: the name of the table does not change")
        self._programs.update(_programs(self._programs, settings))
        self._settings = settings
        return self.repair()

    def fileno(self) -> int:
        """Readable when somebody changed nftables; -1 where that cannot be heard."""
        return self._watch.fileno()

    def drifted(self) -> bool:
        """Whether somebody else changed our tables since the last repair. Call when `fileno` is readable."""
        return self._watch.drifted(self._programs)

    def repair(self) -> Commit:
        """Compares the tables with what is wanted and writes what differs; a changed rule replaces its table.

        Raises KernelUnavailable, and is to be called again then.
        """
        self._delivery.reset()
        self._mend()
        self._watch.damage.clear()
        return self._commit()

    def dump(self) -> dict[int, listing.Dump]:
        """Every element of our tables by family as the kernel has them now: a listing, for tests and inspection."""
        return {family: listing.dump(self._kernel, wanted) for family, wanted in self._programs.items()}

    def _read(self) -> None:
        """Takes over what the kernel holds. Raises OSError."""
        ledger, delivery = self._ledger, self._delivery
        ledger.forget()
        delivery.absent, delivery.foreign = set(), set()
        for family, wanted in list(self._programs.items()):
            try:
                found = inventory.take(self._kernel, wanted)
            except OSError as error:
                if family == MAIN or error.errno in (errno.EPERM, errno.EACCES):
                    raise
                self._leave_out(family, os.strerror(error.errno or 0))
                continue
            if found is None:
                delivery.absent.add(family)
            elif found.adopted is None or self._watch.damage.get(family) is Damage.STRUCTURE:
                delivery.foreign.add(family)
            else:
                delivery.chains[family], delivery.sets[family] = set(found.chains), found.sets
                self._tracker.members.update(found.adopted.members)
                ledger.adopt(found.adopted.frontends, found.adopted.strays)
                private = {(family, name) for name in found.chains if is_private(name)}
                ledger.released.update(private - ledger.uses.keys())

    def _leave_out(self, family: int, reason: str) -> None:
        """Goes on without a family that the kernel will not have; the other one is not held back."""
        log.error("nftables: IPv%d Services are left out until a restart: the kernel refuses: %s", family, reason)
        self._left.leave(reason)
        del self._programs[family]
        self._tracker.leave_out(family)
        self._delivery.absent.discard(family)
        self._delivery.foreign.discard(family)

    def _take(self, services: Iterable[ServiceForwarding], node: NodeForwarding | None) -> None:
        """Puts what is wanted into the tracker; what no table could hold is set aside and its last form stays."""
        if node is not None:
            self._take_node(node)
        for service in services:
            if self._invalid:
                self._invalid.pop(service.key, None)
            try:
                self._tracker.put(service)
                self._left.note(service)
            except (ValueError, OverflowError, KeyError) as error:
                self._invalid[service.key] = Failed(service.key, "INVALID_OBJECT", f"{service.key}: {error}")

    def _take_node(self, node: NodeForwarding) -> None:
        self._invalid.pop(NODE, None)
        try:
            self._tracker.put_node(node)
        except ValueError as error:
            self._invalid[NODE] = Failed(NODE, "INVALID_OBJECT", f"service or pod CIDRs: {error}: correct them")

    def _retire(self, services: Sequence[ServiceForwarding]) -> None:
        """Everything that is not wanted by these Services is to go."""
        kept = {service.key for service in services}
        self._left.keep(kept)
        for owner in self._tracker.owners():
            if owner not in kept:
                self._tracker.remove(owner)
                self._invalid.pop(owner, None)
        self._retire_adopted()

    def _write_much(self) -> None:
        """Writes without listening meanwhile; compares where others wrote too, or are known to have before."""
        try:
            with self._watch.away(lambda: self._delivery.transactions, list(self._programs)):
                self._write()
        except OSError as error:
            raise KernelUnavailable(f"nftables: asking for the generation failed ({error.strerror})") from error
        if self._watch.damage:
            log.info("nftables: others wrote too, comparing")
            self._mend()
            self._watch.damage.clear()

    def _write(self) -> None:
        """Brings the kernel to what is wanted; where it contradicts us, reads the table again and tries once more."""
        try:
            self._writer.write(frozenset(self._ledger.failed))
        except Drifted:
            log.warning("nftables: table %s may not be as we left it, reading it again", self._settings.table)
            self._mend()

    def _mend(self) -> None:
        """Reads the tables again and writes what differs.

        Others may be at it still, as who deletes one family's table and then the other's: nothing is called refused
        before the kernel has contradicted what was just read a few times in a row.
        """
        for _ in range(READINGS - 1):
            self._read_again()
            try:
                self._finish(frozenset(self._ledger.failed))
            except Drifted:
                continue
            return
        self._read_again()
        self._finish(None)

    def _read_again(self) -> None:
        try:
            self._read()
        except OSError as error:
            reason = f"reading table {self._settings.table} again failed ({error.strerror})"
            raise KernelUnavailable(f"nftables: {reason}; it is retried") from error

    def _finish(self, known: frozenset[bytes] | None) -> None:
        """Writes after the tables were read again; `known` as for `Writer.write`."""
        if self._completed:
            self._retire_adopted()
        if self._completed or not self._delivery.foreign:
            self._writer.write(known)

    def _commit(self) -> Commit:
        sent = self._delivery
        return Commit(messages=sent.messages, elements=sent.elements, size=sent.size, failed=self._failures())

    def _retire_adopted(self) -> None:
        """What the kernel has and nobody wants is to go."""
        frontends, members = self._tracker.unclaimed()
        self._tracker.dirty.update(dict.fromkeys([*frontends, *self._ledger.strays]))
        self._tracker.dirty_members.update(dict.fromkeys(members))

    def _failures(self) -> tuple[Failed, ...]:
        """Every object that is not in the kernel as it should be, each once."""
        found: dict[ObjectKey, Failed] = {}
        for failed in (*self._invalid.values(), *self._ledger.failures(), *self._left.failures()):
            found.setdefault(failed.key, failed)
        return tuple(found.values())


def _programs(families: Iterable[int], settings: Settings) -> dict[int, Program]:
    return {family: program(family, settings) for family in families}
