"""Getting changes into the kernel: one transaction for each group of changes, and finding the one that spoils it.

A refused transaction changes nothing. The change at fault is known by the refused message's sequence number and, on
kernels that report it, by the element's offset; it is set aside and the rest goes out again. Where the fault cannot be
placed, the group is halved. Either way the number of attempts is bounded by the number of changes. `dataplane` calls
this.
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
from nodeagent.dataplane.nftables.kernel import Kernel
from nodeagent.dataplane.nftables.program import TRANSLATED, Program
from nodeagent.dataplane.nftables.shared import CLIENTS, Part
from nodeagent.dataplane.nftables.transaction import Batch
from nodeagent.dataplane.outcome import Drifted, Sent
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire

SINGLE_OUTS = 8  # times that objects at fault are set aside before a group is halved instead
WHOLE = frozenset((errno.EPERM, errno.EACCES, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EINTR))
DRIFT = frozenset((errno.ENOENT, errno.EEXIST))


class Uninstallable(Exception):
    """The kernel will not have the table itself, whatever is in it; `code` is its errno."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class Refusal(NamedTuple):
    """A change the kernel will not take, and its errno."""

    change: Change
    errno: int


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
        self.foreign: set[int] = set()  # families whose table another version, other settings or somebody else wrote
        self.chains: dict[int, set[str]] = {family: set() for family in programs}
        self.sets: dict[int, set[str]] = {family: set() for family in programs}
        self.transactions = 0  # committed so far
        self._kernel, self._programs, self._table = kernel, programs, table
        self._sequence = 1

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
        once; None: never. Raises Uninstallable, KernelUnavailable.
        """
        rest = list(changes)
        for _ in range(SINGLE_OUTS):
            if not rest and install is None:
                return
            batch, made = self._build(rest, install)
            replies = self._kernel.commit(batch.data(), batch.first, batch.last)
            if not replies:
                self._committed(batch, made, install, into.sent)
                into.done += rest
                return
            guilty = self._guilty(batch, replies, rest, (known, install))
            if not guilty:
                break
            into.refused += [Refusal(rest[index], code) for index, code in guilty.items()]
            rest = [change for index, change in enumerate(rest) if index not in guilty]
        middle = (len(rest) + 1) // 2
        for half in (rest[:middle], rest[middle:]):
            if half:
                self.deliver(half, into, known, install if install in self.fresh else None)

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
            self.foreign.discard(install)
            self.absent.discard(install)
        for family, part in made.items():
            self.chains[family].update(chain.name for chain in part.chains)
            self.sets[family].update(declared.name for declared in part.sets)
        self._count(batch, sent)

    def _count(self, batch: Batch, sent: Sent) -> None:
        self._advance(batch)
        self.transactions += 1
        sent.messages += batch.messages
        sent.elements += batch.elements
        sent.size += batch.size

    def sweep(self, released: set[Use], used: Iterable[Use], sent: Sent) -> None:
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
            self._advance(batch)
        else:
            self._count(batch, sent)
            self._swept(gone)
            released.clear()

    def _swept(self, gone: Mapping[int, Unused]) -> None:
        for family, (chains, sets) in gone.items():
            self.chains[family].difference_update(chains)
            self.sets[family].difference_update(sets)

    def _advance(self, batch: Batch) -> None:
        self._sequence = batch.last + 2 if batch.last < 0x7000_0000 else 1

    def _guilty(
        self,
        batch: Batch,
        replies: list[wire.Reply],
        changes: list[Change],
        how: tuple[frozenset[bytes] | None, int | None],
    ) -> dict[int, int]:
        """The changes (index: errno) that are surely at fault; empty where the group must be halved.

        `how`: what was refused before and the family that is installed, as for `deliver`.
        """
        known, install = how
        self._advance(batch)
        guilty: dict[int, int] = {}
        for answer in replies:
            blamed = batch.blamed(answer)
            if answer.errno in WHOLE:
                raise _refused(answer.errno)
            if not blamed and (answer.sequence != batch.first or not changes):
                raise Uninstallable(answer.errno) if install else _refused(answer.errno)
            drift = answer.errno in DRIFT and known is not None
            if drift and not all(known is not None and changes[index].identity in known for index in blamed):
                raise Drifted
            if len(blamed) == 1 or len(changes) == 1:
                guilty[blamed[0] if blamed else 0] = answer.errno
        return guilty


def _refused(code: int) -> KernelUnavailable:
    advice = "give the agent CAP_NET_ADMIN" if code in (errno.EPERM, errno.EACCES) else "it is retried"
    return KernelUnavailable(f"nftables: the kernel refused a transaction ({os.strerror(code)}): {advice}")
