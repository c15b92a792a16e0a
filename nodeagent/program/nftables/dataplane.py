"""The nftables dataplane: Services in, one atomic transaction out, writing exactly what differs.

Wires the pure parts (`tracker`, `changes`) to `delivery` and a kernel. Called by the agent from one thread. The order
of things over several transactions is decided here: wanted things in the order the Services are given, removals last.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from sys import maxsize

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.program.dataplane import Commit, Failed
from nodeagent.program.nftables import listing
from nodeagent.program.nftables.changes import Change
from nodeagent.program.nftables.delivery import Delivery, Drifted
from nodeagent.program.nftables.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.program.nftables.ledger import Ledger
from nodeagent.program.nftables.program import Program, program
from nodeagent.program.nftables.settings import Settings
from nodeagent.program.nftables.shared import is_private
from nodeagent.program.nftables.tracker import Tracker

PER_BATCH = 8_000  # elements in one transaction of a cold load: some 30 ms, so that the first Services work early

log = logging.getLogger(__name__)


class NftablesDataplane:
    """Implements `nodeagent.program.dataplane.Dataplane`; without a kernel, on the calling thread's."""

    mode = "nftables"

    def __init__(self, kernel: Kernel | None = None, settings: Settings | None = None) -> None:
        self._given = kernel
        self._settings = settings or Settings()
        self._invalid: dict[ObjectKey, Failed] = {}
        self._completed = False

    @property
    def adopted(self) -> bool:
        """Whether `start` found elements of ours in the kernel."""
        return bool(self._tracker.frontends or self._delivery.foreign)

    def start(self) -> None:
        """Adopts our tables without changing them. Raises DataplaneUnavailable."""
        self._kernel = self._given or NetlinkKernel()
        try:
            self._adopt()
        except DataplaneUnavailable:
            self._kernel.close()
            raise

    def _adopt(self) -> None:
        families = [family for family in (4, 6) if self._kernel.has(family)]
        if 6 not in families:
            log.warning("nftables: this kernel has no IPv6, the family is left out")
        try:
            self._programs: dict[int, Program] = {f: program(f, self._settings) for f in families}
        except ValueError as error:
            raise DataplaneUnavailable(f"nftables: cluster CIDR: {error}: correct --cluster-cidr") from error
        self._tracker = Tracker(families)
        self._ledger = Ledger(self._tracker)
        self._delivery = Delivery(self._kernel, self._programs, self._settings.table)
        try:
            self._read()
        except OSError as error:
            raise unavailable(error, self._settings.table) from error

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
            self._write()
        sent = self._delivery
        return Commit(messages=sent.messages, elements=sent.elements, size=sent.size, failed=self._failures())

    def pending(self) -> bool:
        """True while something wanted is not in the kernel."""
        return bool(self._tracker.dirty or self._tracker.dirty_members or self._invalid)

    def close(self) -> None:
        """Closes the socket."""
        self._kernel.close()

    def dump(self) -> dict[int, listing.Dump]:
        """Every element of our tables by family as the kernel has them now: a listing, for tests and inspection."""
        return {family: listing.dump(self._kernel, wanted) for family, wanted in self._programs.items()}

    def _read(self) -> None:
        """Takes over what the kernel holds. Raises OSError."""
        ledger, delivery = self._ledger, self._delivery
        ledger.forget()
        delivery.absent, delivery.foreign = set(), set()
        for family, wanted in self._programs.items():
            found = listing.comment(self._kernel, wanted)
            if found is None:
                delivery.absent.add(family)
                continue
            chains, sets = listing.chains(self._kernel, wanted), listing.sets(self._kernel, wanted)
            if found != wanted.table.comment or not chains.issuperset(chain.name for chain in wanted.chains):
                delivery.foreign.add(family)
                continue
            adopted = listing.adopt(self._kernel, wanted)
            delivery.chains[family], delivery.sets[family] = chains, sets
            self._tracker.members.update(adopted.members)
            ledger.adopt(adopted.frontends, adopted.strays)
            ledger.released.update((family, name) for name in chains if is_private(name))

    def _take(self, services: Iterable[ServiceForwarding], node: NodeForwarding | None) -> None:
        """Puts what is wanted into the tracker; what no table could hold is set aside and its last form stays."""
        if node is not None:
            self._tracker.put_node(node)
        for service in services:
            if self._invalid:
                self._invalid.pop(service.key, None)
            try:
                self._tracker.put(service)
            except (ValueError, OverflowError, KeyError) as error:
                self._invalid[service.key] = Failed(service.key, "INVALID_OBJECT", f"{service.key}: {error}")

    def _retire(self, services: Sequence[ServiceForwarding]) -> None:
        """Everything that is not wanted by these Services is to go."""
        kept = {service.key for service in services}
        for owner in self._tracker.owners():
            if owner not in kept:
                self._tracker.remove(owner)
                self._invalid.pop(owner, None)
        self._retire_adopted()

    def _write(self) -> None:
        """Brings the kernel to what is wanted; where it contradicts us, reads the table again and tries once more."""
        try:
            self._deliver(frozenset(self._ledger.failed))
        except Drifted:
            log.warning("nftables: table %s was changed by somebody else, reading it again", self._settings.table)
            self._read_again()
            if self._completed:
                self._retire_adopted()
            self._deliver(None)

    def _read_again(self) -> None:
        try:
            self._read()
        except OSError as error:
            reason = f"reading table {self._settings.table} again failed ({error.strerror})"
            raise KernelUnavailable(f"nftables: {reason}; it is retried") from error

    def _retire_adopted(self) -> None:
        """What the kernel has and nobody wants is to go."""
        frontends, members = self._tracker.unclaimed()
        self._tracker.dirty.update(dict.fromkeys([*frontends, *self._ledger.strays]))
        self._tracker.dirty_members.update(dict.fromkeys(members))

    def _deliver(self, known: frozenset[bytes] | None) -> None:
        delivery = self._delivery
        for group in _groups(self._ledger.changes(), maxsize if delivery.foreign else PER_BATCH):
            delivery.done, delivery.refused = [], []
            try:
                delivery.deliver(group, known)
            finally:
                self._ledger.settle(delivery.done, delivery.refused)
        delivery.sweep(self._ledger.released, self._ledger.uses)

    def _failures(self) -> tuple[Failed, ...]:
        """Every object that is not in the kernel as it should be, each once."""
        found: dict[ObjectKey, Failed] = {}
        for failed in (*self._invalid.values(), *self._ledger.failures()):
            found.setdefault(failed.key, failed)
        return tuple(found.values())


def _groups(changes: Iterable[Change], size: int) -> Iterator[list[Change]]:
    """Groups of whole changes of about `size` elements; at least one group, which may be empty."""
    group: list[Change] = []
    count = 0
    for change in changes:
        if group and count >= size:
            yield group
            group, count = [], 0
        group.append(change)
        count += len(change.deletes) + len(change.adds)
    yield group
