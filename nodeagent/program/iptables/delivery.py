"""Gets changes into the kernel: one restore for all, and what to do where the program refuses one.

Between the pure parts and `tools`; called by `dataplane`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from deltaplane.model import ObjectKey
from nodeagent.errors import KernelUnavailable
from nodeagent.program.dataplane import Failed
from nodeagent.program.iptables import naming as n
from nodeagent.program.iptables.script import Change, Script
from nodeagent.program.iptables.tables import Tables, listing
from nodeagent.program.iptables.tools import Flavour, Iptables, Refusal
from nodeagent.program.iptables.tracker import NODE, Tracker

RETRIES = 8  # objects that failed before and are tried again with one apply, each with a restore of its own

MOST = 500
"""Chains in one transaction of the nft flavour, about.

iptables-nft walks a list of all the names in a transaction at each of its lines, so that 50,000 chains at once take it
tens of minutes. The legacy flavour replaces the whole table with every transaction, so there it is one for all.
"""

log = logging.getLogger(__name__)


class Delivery:
    """One family's way into the kernel. Counts what was sent since `reset`."""

    def __init__(self, kernel: Iptables, tracker: Tracker) -> None:
        self._kernel, self.tracker = kernel, tracker
        self.failed: dict[ObjectKey, Failed] = {}
        self.messages = self.lines = self.size = 0
        self.sweeping = False  # what nobody has is to go with the next write
        self._doubted = False  # the tables were read again in this round

    def reset(self) -> None:
        self.messages = self.lines = self.size = 0

    def read(self) -> None:
        """Takes over what the kernel holds. Raises KernelUnavailable."""
        tables = Tables()
        for table in n.TABLES:
            tables.adopt(table, listing(self._kernel.save(self.tracker.family, table)))
        self.tracker.tables = tables

    @property
    def pending(self) -> bool:
        return bool(self.tracker.dirty or self.sweeping)

    def write(self) -> None:
        """Makes all that is dirty so. Raises KernelUnavailable."""
        self._doubted = False
        before = [owner for owner in self.tracker.dirty if owner in self.failed]
        fresh = [owner for owner in self.tracker.dirty if owner not in self.failed]
        if fresh or self.sweeping:
            self._send(fresh, strays=self.sweeping)
        self.sweeping = False
        self._doubted = True
        for owner in before[:RETRIES]:
            self.failed[owner] = self.failed.pop(owner)  # the next ones are others
            self._send([owner], strays=False)

    def _send(self, owners: Sequence[ObjectKey], *, strays: bool) -> None:
        changes = self._changes(owners)
        if strays:
            changes.append(self.tracker.strays())
        script = Script(self.tracker.tables, changes, MOST if self._kernel.flavour is Flavour.NFT else 0)
        refusal = self._restore(script) if script else None
        if refusal is None:
            script.done()
            for change in changes:
                self._settle(change.owner)
            return
        self._recover([c.owner for c in changes if c.owner is not None], script, refusal, strays=strays)

    def _changes(self, owners: Iterable[ObjectKey]) -> list[Change]:
        changes = []
        for owner in owners:
            try:
                changes.append(self.tracker.change(owner))
            except (ValueError, OverflowError, KeyError) as error:
                self.failed[owner] = Failed(owner, "INVALID_OBJECT", f"{owner}: {error}")
        return changes

    def _restore(self, script: Script) -> Refusal | None:
        text = script.text()
        self.messages += 1
        self.lines += script.lines
        self.size += len(text)
        return self._kernel.restore(self.tracker.family, text)

    def _settle(self, owner: ObjectKey | None) -> None:
        if owner is not None:
            self.tracker.settle(owner)
            self.failed.pop(owner, None)

    def _recover(self, owners: list[ObjectKey], script: Script, refusal: Refusal, *, strays: bool) -> None:
        """The tables may not be as we think: they are read again once; then whatever was refused is left out."""
        family = self.tracker.family
        if refusal.busy:
            raise KernelUnavailable(f"iptables: IPv{family} restore failed ({refusal.text}); it is retried")
        sections, step = script.locate(refusal.line)
        script.done(sections)
        if not self._doubted:
            self._doubted = True
            log.warning("iptables: IPv%d restore failed (%s), reading the tables again", family, refusal.text)
            self.read()
            self.tracker.suspect()
            everything = [owner for owner in self.tracker.dirty if owner not in self.failed]
            self._send(everything, strays=strays)
            return
        guilty = step.owner if step else None
        if guilty is None and len(owners) > 1:
            self._halve(owners, strays=strays)
            return
        guilty = guilty or next(iter(owners), NODE)
        if guilty == NODE:
            raise KernelUnavailable(f"iptables: IPv{family} restore failed ({refusal.text}); it is retried")
        self._fail(guilty, refusal)
        self._send([owner for owner in owners if owner != guilty], strays=strays)

    def _halve(self, owners: list[ObjectKey], *, strays: bool) -> None:
        """The program does not say whose line it is: the base goes first, then halves until there is one left."""
        if owners[0] == NODE:
            self._send(owners[:1], strays=False)
            owners = owners[1:]
        middle = (len(owners) + 1) // 2
        self._send(owners[:middle], strays=False)
        self._send(owners[middle:], strays=strays)

    def _fail(self, owner: ObjectKey, refusal: Refusal) -> None:
        text = f"{owner}: iptables-restore refused it ({refusal.text})"
        self.failed[owner] = Failed(owner, "KERNEL_REJECTED", text)
