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
from typing import NamedTuple

from nodeagent.dataplane.nftables import affinity_migration
from nodeagent.dataplane.nftables.chain_gc import Unused, Use, unused
from nodeagent.dataplane.nftables.changes import Change, Need
from nodeagent.dataplane.nftables.kernel import Kernel
from nodeagent.dataplane.nftables.program import TRANSLATED, Program
from nodeagent.dataplane.nftables.shared import CLIENTS, Part
from nodeagent.dataplane.nftables.transaction import Batch
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire

SINGLE_OUTS = 8  # times that objects at fault are set aside before a group is halved instead
WHOLE = frozenset((errno.EPERM, errno.EACCES, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EINTR))
DRIFT = frozenset((errno.ENOENT, errno.EEXIST))


class Drifted(Exception):
    """What the kernel holds is not known: others changed our table or took it away, or a transaction had no answer."""


class Uninstallable(Exception):
    """The kernel will not have the table itself, whatever is in it; `code` is its errno."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class Refusal(NamedTuple):
    """A change the kernel will not take, and its errno."""

    change: Change
    errno: int


class Delivery:
    """What is installed besides elements, and the way there. Counts what was committed since `reset`."""

    def __init__(self, kernel: Kernel, programs: Mapping[int, Program], table: str) -> None:
        self.absent: set[int] = set(programs)  # families without our table
        self.foreign: set[int] = set()  # families whose table another version, other settings or somebody else wrote
        self.installing: int | None = None  # the family whose table goes in with the next changes
        self.chains: dict[int, set[str]] = {family: set() for family in programs}
        self.sets: dict[int, set[str]] = {family: set() for family in programs}
        self.refused: list[Refusal] = []
        self.done: list[Change] = []
        self.messages = self.elements = self.size = 0
        self.transactions = 0  # committed so far; not reset
        self._kernel, self._programs, self._table = kernel, programs, table
        self._sequence = 1

    @property
    def fresh(self) -> list[int]:
        """Families whose table is to be installed or replaced."""
        return sorted(self.foreign | self.absent)

    def reset(self) -> None:
        """Starts counting anew."""
        self.messages = self.elements = self.size = 0

    def deliver(self, changes: Sequence[Change], known: frozenset[bytes] | None) -> None:
        """Commits changes, with whatever they need installed first; appends each to `done` or `refused`.

        Where a table is to be installed, the changes are of one family, and that table is installed with them; call
        once for each of `fresh`. `known`: identities refused before. Where the kernel contradicts another one, raises
        Drifted at once; None: never. Raises Uninstallable, KernelUnavailable.
        """
        rest = list(changes)
        for _ in range(SINGLE_OUTS):
            if not rest and self.installing is None:
                return
            batch = self._build(rest)
            replies = self._kernel.commit(batch.data(), batch.first, batch.last)
            if not replies:
                self._committed(batch, rest)
                return
            guilty = self._guilty(batch, replies, rest, known)
            if not guilty:
                break
            self.refused += [Refusal(rest[index], code) for index, code in guilty.items()]
            rest = [change for index, change in enumerate(rest) if index not in guilty]
        middle = (len(rest) + 1) // 2
        for half in (rest[:middle], rest[middle:]):
            if half:
                self.deliver(half, known)

    def _build(self, changes: Sequence[Change]) -> Batch:
        batch, family = Batch(self._table, self._sequence), self.installing
        if family is not None and family in self.foreign:
            batch.remove_table(self._programs[family])
        if family is not None:
            batch.install(self._programs[family])
            if family in self.foreign:
                batch.fill(family, TRANSLATED, affinity_migration.places(self._kernel, family, self._table, TRANSLATED))
        self._made: dict[int, Part] = {}
        for (family, need), users in self._missing(changes).items():
            part = self._still_missing(family, self._programs[family].part(need.name, need.ranges))
            batch.part(family, part, users)
            self._carry(batch, family, part)
            made = self._made.get(family, Part(()))
            self._made[family] = Part(made.chains + part.chains, made.sets + part.sets)
        batch.change(changes)
        return batch

    def _carry(self, batch: Batch, family: int, part: Part) -> None:
        """What the clients' maps of a table that is replaced hold, where the next one has them too."""
        if family not in self.foreign:
            return
        names = [declared.name for declared in part.sets if declared.name.startswith(CLIENTS)]
        for name, packed in affinity_migration.clients(self._kernel, family, self._table, names).items():
            batch.fill(family, name, packed)

    def _missing(self, changes: Sequence[Change]) -> dict[tuple[int, Need], list[int]]:
        """The shared chains these changes go to that are not there yet, and which changes need them."""
        missing: dict[tuple[int, Need], list[int]] = {}
        for index, change in enumerate(changes):
            for need in change.needs:
                family = change.identity[0]
                if family == self.installing or need.name not in self.chains[family]:
                    missing.setdefault((family, need), []).append(index)
        return missing

    def _still_missing(self, family: int, part: Part) -> Part:
        """What of a part is neither in the kernel nor in this transaction already."""
        made = self._made.get(family, Part(()))
        chains, sets = {chain.name for chain in made.chains}, {declared.name for declared in made.sets}
        if family != self.installing:
            chains, sets = chains | self.chains[family], sets | self.sets[family]
        return Part(
            tuple(chain for chain in part.chains if chain.name not in chains),
            tuple(declared for declared in part.sets if declared.name not in sets),
        )

    def _committed(self, batch: Batch, changes: list[Change]) -> None:
        installed = self.installing
        if installed is not None:
            self.chains[installed] = {chain.name for chain in self._programs[installed].chains}
            self.sets[installed] = {declared.name for declared in self._programs[installed].sets}
            self.foreign.discard(installed)
            self.absent.discard(installed)
            self.installing = None
        for family, part in self._made.items():
            self.chains[family].update(chain.name for chain in part.chains)
            self.sets[family].update(declared.name for declared in part.sets)
        self._sent(batch)
        self.done += changes

    def _sent(self, batch: Batch) -> None:
        self._advance(batch)
        self.transactions += 1
        self.messages += batch.messages
        self.elements += batch.elements
        self.size += batch.size

    def sweep(self, released: set[Use], used: Iterable[Use]) -> None:
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
            self._sent(batch)
            self._swept(gone)
            released.clear()

    def _swept(self, gone: Mapping[int, Unused]) -> None:
        for family, (chains, sets) in gone.items():
            self.chains[family].difference_update(chains)
            self.sets[family].difference_update(sets)

    def _advance(self, batch: Batch) -> None:
        self._sequence = batch.last + 2 if batch.last < 0x7000_0000 else 1

    def _guilty(
        self, batch: Batch, replies: list[wire.Reply], changes: list[Change], known: frozenset[bytes] | None
    ) -> dict[int, int]:
        """The changes (index: errno) that are surely at fault; empty where the group must be halved."""
        self._advance(batch)
        guilty: dict[int, int] = {}
        for answer in replies:
            blamed = batch.blamed(answer)
            if answer.errno in WHOLE:
                raise _refused(answer.errno)
            if not blamed and (answer.sequence != batch.first or not changes):
                raise Uninstallable(answer.errno) if self.installing else _refused(answer.errno)
            drift = answer.errno in DRIFT and known is not None
            if drift and not all(known is not None and changes[index].identity in known for index in blamed):
                raise Drifted
            if len(blamed) == 1 or len(changes) == 1:
                guilty[blamed[0] if blamed else 0] = answer.errno
        return guilty


def _refused(code: int) -> KernelUnavailable:
    advice = "give the agent CAP_NET_ADMIN" if code in (errno.EPERM, errno.EACCES) else "it is retried"
    return KernelUnavailable(f"nftables: the kernel refused a transaction ({os.strerror(code)}): {advice}")
