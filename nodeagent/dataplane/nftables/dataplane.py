"""The nftables driver: Services in, one atomic transaction out, writing exactly what differs.

Wires the pure parts (`desired`, `pending`) to `writer`, `delivery` and a kernel.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane import frontend_key
from nodeagent.dataplane.api import Held
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.nftables import inventory, listing, read_back
from nodeagent.dataplane.nftables.delivery import Delivery
from nodeagent.dataplane.nftables.desired import Desired
from nodeagent.dataplane.nftables.pending import Pending
from nodeagent.dataplane.nftables.program import TRANSLATED, Program, program
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.dataplane.nftables.shared import CLIENTS, is_private
from nodeagent.dataplane.nftables.writer import MAIN, Writer
from nodeagent.dataplane.outcome import Drifted, Failed, Round, Sent
from nodeagent.dataplane.read_back import Found
from nodeagent.dataplane.reconciler import Reconciler
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.nft.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.linux.nft.monitor import Monitor
from nodeagent.linux.nft.watch import Damage, listen

log = logging.getLogger(__name__)

MANY = 500  # frontends to look at: a cold load, or nearly


class NftablesDataplane(Reconciler[Settings]):
    """The nftables mode; without a kernel, on the calling thread's.

    Where another version of the program (or other settings) wrote the table, nothing is written until the first
    complete apply; that one replaces the table, elements, clients of session affinity and all, in one transaction.
    """

    def __init__(
        self, kernel: Kernel | None = None, settings: Settings | None = None, monitor: Monitor | None = None
    ) -> None:
        self.driver = NftablesDriver(kernel, settings or Settings(), monitor)
        super().__init__(self.driver)

    def held(self) -> list[Held]:
        """See `Remembering.held`; nothing of a table that another version of the program wrote."""
        return [frontend_key.held(frontend) for frontend in self.driver.desired.frontends.actual]

    def wanted(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.wanted`."""
        return read_back.wanted(self.driver.desired, services)

    def account(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.account`."""
        return read_back.account(self.driver.desired, frontends, services)

    def look(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.look`."""
        return self.driver.look(frontends, services)

    def dump(self) -> dict[int, listing.Dump]:
        """Every element of our tables by family as the kernel has them now: a listing, for tests and inspection."""
        return self.driver.dump()


class NftablesDriver:
    """Implements `nodeagent.dataplane.api.Driver`."""

    mode = "nftables"

    def __init__(self, kernel: Kernel | None, settings: Settings, monitor: Monitor | None) -> None:
        self._given, self._settings, self._monitor = kernel, settings, monitor
        self._opened = ExitStack()

    def open(self, left: LeftOut) -> None:
        """See `Driver.open`."""
        self._left = left
        self._kernel = self._given or NetlinkKernel()
        self._opened.callback(self._kernel.close)
        table = self._settings.table
        self._watch = listen(self.mode, self._kernel, table, weigh, self._monitor)  # before anything is read
        self._opened.callback(self._watch.close)
        families = [family for family in (4, 6) if self._kernel.has(family)]
        if 6 not in families:
            left.leave("this kernel has no IPv6", refused=False)
        try:
            self._programs = _programs(families, self._settings)
        except ValueError as error:
            raise DataplaneUnavailable(f"nftables: cluster CIDR: {error}: correct --cluster-cidr") from error
        self.desired = Desired(families)
        self._pending = Pending(self.desired)
        self._delivery = Delivery(self._kernel, self._programs, table)
        self._writer = Writer(self._pending, self._delivery, self._leave_out)

    @property
    def adopted(self) -> bool:
        """See `Driver.adopted`."""
        return bool(self.desired.frontends.actual or self._delivery.foreign)

    def close(self) -> None:
        """See `Driver.close`."""
        self._opened.close()

    def configure(self, settings: Settings) -> None:
        """See `Driver.configure`. A table is replaced in one transaction, so that no packet sees a gap."""
        if settings.table != self._settings.table:
            raise ValueError(f"table {settings.table}: the name of the table does not change")
        self._programs.update(_programs(self._programs, settings))
        self._settings = settings

    # ------------------------------------------------------------ what is wanted

    def put(self, service: ServiceForwarding) -> None:
        self.desired.put(service)

    def put_node(self, node: NodeForwarding) -> None:
        self.desired.put_node(node)

    def remove(self, owner: ObjectKey) -> None:
        self.desired.remove(owner)

    def owners(self) -> Iterable[ObjectKey]:
        return self.desired.owners()

    def retire(self) -> None:
        self._pending.retire()

    def pending(self) -> bool:
        return self.desired.pending

    def failures(self) -> Iterator[Failed]:
        return iter(self._pending.failed.values())

    # ------------------------------------------------------------ the kernel

    def read(self) -> None:
        """See `Driver.read`."""
        pending, delivery = self._pending, self._delivery
        pending.forget()
        delivery.forget()
        for family, wanted in list(self._programs.items()):
            try:
                found = inventory.take(self._kernel, wanted)
            except OSError as error:
                if family == MAIN or error.errno in (errno.EPERM, errno.EACCES):
                    raise KernelUnavailable(str(unavailable(error, self._settings.table))) from error
                self._leave_out(family, os.strerror(error.errno or 0))
                continue
            if found is None:
                delivery.absent.add(family)
            elif found.adopted is None or self._watch.damage.get(family) is Damage.STRUCTURE:
                delivery.foreign.add(family)
            else:
                delivery.adopt(family, set(found.chains), found.sets)
                self.desired.members.actual.update(found.adopted.members)
                pending.adopt(found.adopted.frontends, found.adopted.strays)
                private = {(family, name) for name in found.chains if is_private(name)}
                pending.released.update(private - pending.uses.keys())

    def _leave_out(self, family: int, reason: str) -> None:
        """Goes on without a family that the kernel will not have; the other one is not held back."""
        self._left.leave(reason)
        del self._programs[family]
        self.desired.leave_out(family)
        self._delivery.leave_out(family)

    def write(self, sent: Sent, this: Round) -> None:
        """See `Driver.write`."""
        if self._delivery.foreign and not this.complete:
            return
        known = None if this.last else frozenset(self._pending.failed)
        if this.again or len(self._pending) < MANY:
            self._writer.write(sent, known)
        else:
            self._write_much(sent, known)

    def _write_much(self, sent: Sent, known: frozenset[bytes] | None) -> None:
        """Writes without listening meanwhile; where others wrote too, or are known to have before, all is compared."""
        try:
            with self._watch.away(lambda: self._delivery.transactions, list(self._programs)):
                self._writer.write(sent, known)
        except OSError as error:
            raise KernelUnavailable(f"nftables: asking for the generation failed ({error.strerror})") from error
        if self._watch.damage:
            raise Drifted

    def repaired(self, *, fruitful: bool) -> None:
        self._watch.damage.clear()

    def fileno(self) -> int:
        return self._watch.fileno()

    def drifted(self) -> bool:
        return self._watch.drifted(self._programs)

    def look(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.look`."""
        return read_back.look(self._kernel, self._programs, frontends, list(services))

    def dump(self) -> dict[int, listing.Dump]:
        """See `NftablesDataplane.dump`."""
        return {family: listing.dump(self._kernel, wanted) for family, wanted in self._programs.items()}


def weigh(name: str) -> Damage | None:
    """What it means that another program changed an element of this set.

    What packets write, such as the clients of session affinity, may be taken away by any program. What a firewall holds
    is written once, with its chain.
    """
    if name.startswith(CLIENTS) or name == TRANSLATED:
        return None
    return Damage.STRUCTURE if name.startswith("firewall/") else Damage.ELEMENTS


def _programs(families: Iterable[int], settings: Settings) -> dict[int, Program]:
    return {family: program(family, settings) for family in families}
