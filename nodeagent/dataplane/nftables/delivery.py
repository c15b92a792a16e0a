"""Getting changes into the kernel: one transaction for each group of changes, and setting aside what spoils it.

The change at fault is known by the refused message's sequence number and, on kernels that report it, by the element's
offset; `refusals` searches. `dataplane` calls this.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nodeagent.dataplane.nftables import affinity_migration
from nodeagent.dataplane.nftables.chain_gc import Unused, Use, unused
from nodeagent.dataplane.nftables.changes import Change, Need
from nodeagent.dataplane.nftables.program import TRANSLATED, Program
from nodeagent.dataplane.nftables.shared import CLIENTS
from nodeagent.dataplane.outcome import Sent
from nodeagent.dataplane.refusals import Blame, NoneTaken, at_fault, send_apart
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.nft.kernel import Kernel
from nodeagent.linux.nft.program import Part
from nodeagent.linux.nft.transaction import WHOLE, Batch


class Refusal(NamedTuple):
    """A change the kernel will not take, and why."""

    change: Change
    why: Blame


@dataclass
class Delivered:
    """What became of changes, while they are delivered."""

    sent: Sent
    done: list[Change] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


class Delivery:
    """What is installed besides elements, and the way there."""

    def __init__(self, kernel: Kernel, programs: Mapping[int, Program], table: str) -> None:
        self.absent: set[int] = set(programs)  # families without our table
        self.foreign: set[int] = set()  # families whose table another version, other settings or another program wrote
        self.chains: dict[int, set[str]] = {family: set() for family in programs}
        self.sets: dict[int, set[str]] = {family: set() for family in programs}
        self.transactions = 0  # committed so far
        self._kernel, self._programs, self._table = kernel, programs, table
        self._sequence = 1

    def forget(self) -> None:
        """The kernel is read again."""
        self.absent, self.foreign = set(), set()

    def adopt(self, family: int, chains: set[str], sets: set[str]) -> None:
        """What our table of this family has."""
        self.chains[family], self.sets[family] = chains, sets

    def leave_out(self, family: int) -> None:
        """Has nothing more to do with a family."""
        self.absent.discard(family)
        self.foreign.discard(family)

    @property
    def fresh(self) -> list[int]:
        """Families whose table is to be installed or replaced."""
        return sorted(self.foreign | self.absent)

    def deliver(
        self, changes: Sequence[Change], into: Delivered, known: frozenset[bytes] | None, install: int | None = None
    ) -> None:
        """Commits changes, with whatever they need made first; each becomes one of `into.done` or `into.refused`.

        `install`: the family whose table goes in with the first of them, which are all of that family; call once for
        each of `fresh`. `known`: identities refused before. Where the kernel contradicts another one, raises Drifted at
        once; None: never. Raises KernelUnavailable, and NoneTaken where the kernel will not have the table itself.
        """
        send_apart(changes, lambda group: self._attempt(group, into, known, install))

    def _attempt(
        self, changes: Sequence[Change], into: Delivered, known: frozenset[bytes] | None, install: int | None
    ) -> dict[int, Blame] | None:
        """One transaction, as for `send_apart`."""
        if install is not None and install not in self.fresh:
            install = None  # it went in with a group before
        if not changes and install is None:
            return None
        batch, made = self._build(changes, install)
        replies = self._kernel.commit(batch.data(), batch.first, batch.last)
        if not replies:
            self._committed(batch, made, install, into.sent)
            into.done += changes
            return None
        self._sequence = batch.following
        try:
            guilty = at_fault(batch, replies, [known is None or change.identity in known for change in changes])
        except NoneTaken as error:
            if install is None or error.code in WHOLE:
                raise _refused(error.code) from None
            raise
        into.refused += [Refusal(changes[place], why) for place, why in guilty.items()]
        return guilty

    def _build(self, changes: Sequence[Change], install: int | None) -> tuple[Batch, dict[int, Part]]:
        """One transaction, and the shared chains and sets that it makes, by family."""
        batch, made = Batch(self._table, self._sequence), dict[int, Part]()
        if install is not None:
            self._install(batch, install)
        for (family, need), users in self._missing(changes, install).items():
            before = made.get(family, Part(()))
            part = self._still_missing(family, need, before, installing=family == install)
            batch.part(family, part, users)
            self._carry(batch, family, part)
            made[family] = Part(before.chains + part.chains, before.sets + part.sets)
        batch.change(changes)
        return batch, made

    def _install(self, batch: Batch, family: int) -> None:
        wanted, replaces = self._programs[family], family in self.foreign
        if replaces:
            batch.remove_table(wanted)
        batch.install(wanted)
        if replaces:
            batch.fill(family, TRANSLATED, affinity_migration.places(self._kernel, family, self._table, TRANSLATED))

    def _carry(self, batch: Batch, family: int, part: Part) -> None:
        """What the clients' maps of a table that is replaced hold, where the next one has them too."""
        if family not in self.foreign:
            return
        names = [declared.name for declared in part.sets if declared.name.startswith(CLIENTS)]
        for name, packed in affinity_migration.clients(self._kernel, family, self._table, names).items():
            batch.fill(family, name, packed)

    def _missing(self, changes: Sequence[Change], install: int | None) -> dict[tuple[int, Need], list[int]]:
        """The shared chains these changes go to that are not there yet, and which changes need them."""
        missing: dict[tuple[int, Need], list[int]] = {}
        for index, change in enumerate(changes):
            for need in change.needs:
                family = change.identity[0]
                if family == install or need.name not in self.chains[family]:
                    missing.setdefault((family, need), []).append(index)
        return missing

    def _still_missing(self, family: int, need: Need, made: Part, *, installing: bool) -> Part:
        """What of a shared chain is neither in the kernel nor in this transaction already (`made`)."""
        part = self._programs[family].part(need.name, need.ranges)
        chains, sets = {chain.name for chain in made.chains}, {declared.name for declared in made.sets}
        if not installing:
            chains, sets = chains | self.chains[family], sets | self.sets[family]
        return Part(
            tuple(chain for chain in part.chains if chain.name not in chains),
            tuple(declared for declared in part.sets if declared.name not in sets),
        )

    def _committed(self, batch: Batch, made: Mapping[int, Part], install: int | None, sent: Sent) -> None:
        if install is not None:
            self.chains[install] = {chain.name for chain in self._programs[install].chains}
            self.sets[install] = {declared.name for declared in self._programs[install].sets}
            self.leave_out(install)
        for family, part in made.items():
            self.chains[family].update(chain.name for chain in part.chains)
            self.sets[family].update(declared.name for declared in part.sets)
        self._count(batch, sent)

    def _count(self, batch: Batch, sent: Sent) -> None:
        self._sequence = batch.following
        self.transactions += 1
        sent.messages += batch.messages
        sent.elements += batch.elements
        sent.size += batch.size

    def remove_unused(self, released: set[Use], used: Iterable[Use], sent: Sent) -> None:
        """Takes private chains and sets away that nothing goes to any more, in a transaction of their own.

        A kernel may still count what the transaction before let go of (before 6.2): then they stay in `released` for
        the next time. Raises KernelUnavailable.
        """
        if not released or self.fresh:
            return
        gone = {}
        batch = Batch(self._table, self._sequence)
        for family in self._programs:
            there = self.chains[family], self.sets[family]
            gone[family] = unused(self._programs[family], there, released, used)
            batch.remove(family, *gone[family])
        if batch.empty:
            released.clear()
        elif self._kernel.commit(batch.data(), batch.first, batch.last):
            self._sequence = batch.following
        else:
            self._count(batch, sent)
            self._removed(gone)
            released.clear()

    def _removed(self, gone: Mapping[int, Unused]) -> None:
        for family, (chains, sets) in gone.items():
            self.chains[family].difference_update(chains)
            self.sets[family].difference_update(sets)


def _refused(code: int) -> KernelUnavailable:
    advice = "give the agent CAP_NET_ADMIN" if code in (errno.EPERM, errno.EACCES) else "it is retried"
    return KernelUnavailable(f"nftables: the kernel refused a transaction ({os.strerror(code)}): {advice}")
