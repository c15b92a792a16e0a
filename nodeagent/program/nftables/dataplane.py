"""The nftables dataplane: Services in, one atomic transaction out, writing exactly what differs.

Wires the pure parts (`tracker`, `changes`) to `delivery` and a kernel. Called by the agent from one thread. The order
of things over several transactions is decided here: wanted things in the order the Services are given, removals last.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from sys import maxsize

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.program.dataplane import Commit, Failed
from nodeagent.program.nftables import listing
from nodeagent.program.nftables.changes import Change, Operation, frontend_change, member_change
from nodeagent.program.nftables.delivery import Delivery, Drifted
from nodeagent.program.nftables.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.program.nftables.naming import describe, name_of
from nodeagent.program.nftables.program import Program, Settings, program
from nodeagent.program.nftables.tracker import NODE, Claim, Tracker

PER_BATCH = 8_000  # elements in one transaction of a cold load: some 30 ms, so that the first Services work early

log = logging.getLogger(__name__)


class NftablesDataplane:
    """Implements `nodeagent.program.dataplane.Dataplane`; without a kernel, on the calling thread's."""

    mode = "nftables"

    def __init__(self, kernel: Kernel | None = None, settings: Settings | None = None) -> None:
        self._given = kernel
        self._settings = settings or Settings()
        self._strays: dict[bytes, list[Operation]] = {}
        self._failed: dict[bytes, Failed] = {}  # by frontend or member
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
        tracker, delivery = self._tracker, self._delivery
        tracker.forget()
        self._strays.clear()
        delivery.absent, delivery.foreign = set(), set()
        for family, wanted in self._programs.items():
            found = listing.comment(self._kernel, wanted)
            if found is None:
                delivery.absent.add(family)
                continue
            chains = listing.chains(self._kernel, wanted)
            if found != wanted.table.comment or not chains.issuperset(chain.name for chain in wanted.chains):
                delivery.foreign.add(family)
                continue
            adopted = listing.adopt(self._kernel, wanted)
            delivery.chains[family] = chains
            tracker.frontends.update(adopted.frontends)
            tracker.members.update(adopted.members)
            self._strays.update(adopted.strays)

    def _take(self, services: Iterable[ServiceForwarding], node: NodeForwarding | None) -> None:
        """Puts what is wanted into the tracker; what no table could hold is set aside and its last form stays."""
        if node is not None:
            self._tracker.put_node(node.node_port_addresses)
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
            self._deliver(frozenset(self._failed))
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
        self._tracker.dirty.update(dict.fromkeys([*frontends, *self._strays]))
        self._tracker.dirty_members.update(dict.fromkeys(members))

    def _deliver(self, known: frozenset[bytes] | None) -> None:
        delivery = self._delivery
        for group in _groups(self._changes(), maxsize if delivery.foreign else PER_BATCH):
            delivery.done, delivery.refused = [], []
            try:
                delivery.deliver(group, known)
            finally:
                self._settle()

    def _changes(self) -> Iterator[Change]:
        """Everything that differs, made as needed: a Service's set members with its first frontend, removals last."""
        tracker = self._tracker
        offered: set[bytes] = set()
        gone: list[bytes] = []
        for frontend in list(tracker.dirty):
            claim = tracker.wanted(frontend)
            if claim is None:
                gone.append(frontend)
                continue
            if tracker.dirty_members:
                yield from self._members(tracker.members_of(claim.owner), offered)
            yield from self._frontend(frontend, claim)
        yield from self._members([m for m in tracker.dirty_members if tracker.wants(m) is not None], offered)
        for frontend in gone:
            yield from self._frontend(frontend, None)
        yield from self._members(list(tracker.dirty_members), offered)

    def _frontend(self, frontend: bytes, claim: Claim | None) -> Iterator[Change]:
        """The change of a frontend, if there is one."""
        tracker, strays = self._tracker, self._strays.get(frontend, [])
        owner, placement = (claim.owner, claim.placement) if claim else (NODE, None)
        change = frontend_change(owner, frontend, tracker.frontends.get(frontend), placement, strays)
        if change is not None:
            yield change
        else:
            tracker.dirty.pop(frontend, None)
            self._failed.pop(frontend, None)

    def _members(self, members: Iterable[bytes], offered: set[bytes]) -> Iterator[Change]:
        """The changes of those members that differ and were not offered before."""
        tracker = self._tracker
        for member in members:
            if member in offered or member not in tracker.dirty_members:
                continue
            offered.add(member)
            wisher = tracker.wants(member)
            if (wisher is not None) is not (member in tracker.members):
                yield member_change(wisher or NODE, member, wisher is not None)
            else:
                tracker.dirty_members.pop(member, None)
                self._failed.pop(member, None)

    def _settle(self) -> None:
        """Notes what the last delivery did and did not."""
        tracker = self._tracker
        for change in self._delivery.done:
            if change.member:
                (tracker.members.add if change.present else tracker.members.discard)(change.identity)
                tracker.dirty_members.pop(change.identity, None)
            else:
                if change.after is None:
                    tracker.frontends.pop(change.identity, None)
                else:
                    tracker.frontends[change.identity] = change.after
                tracker.dirty.pop(change.identity, None)
                self._strays.pop(change.identity, None)
            self._failed.pop(change.identity, None)
        for change, code in self._delivery.refused:
            reason = f"the kernel refused {describe(change)}: {os.strerror(code)}"
            text = f"{change.owner}: {reason}; tried again with the next change"
            self._failed[change.identity] = Failed(change.owner, "KERNEL_REJECTED", text)

    def _failures(self) -> tuple[Failed, ...]:
        """Every object that is not in the kernel as it should be, each once."""
        found = {failed.key: failed for failed in (*self._failed.values(), *self._invalid.values())}
        for frontend, losers in self._tracker.conflicts.items():
            claim = self._tracker.wanted(frontend)
            for loser in losers:
                text = (
                    f"{loser}: {name_of(frontend)} belongs to {claim.owner if claim else 'nobody'}: change one of them"
                )
                found.setdefault(loser, Failed(loser, "CONFLICT", text))
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
