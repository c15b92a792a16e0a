"""Gets changes into the kernel: one restore for all, and what to do where the program refuses one.

Between the pure parts and `tools`; called by `dataplane`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from deltaplane.model import ObjectKey
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.script import Change, Script, Step
from nodeagent.dataplane.iptables.tables import Tables, listing
from nodeagent.dataplane.iptables.tools import Flavour, Iptables, Refusal
from nodeagent.dataplane.iptables.tracker import NODE, Tracker
from nodeagent.dataplane.outcome import Failed
from nodeagent.errors import KernelUnavailable

RETRIES = 8  # objects that failed before and are tried again with one apply, each with a restore of its own

MOST = 1000
"""Chains in one transaction of the nft flavour, about.

iptables-nft walks a list of all the names in a transaction at each of its lines, so that 50,000 chains at once take it
tens of minutes. Smaller parts have the kernel walk all chains more often, as it does with every transaction. The legacy
flavour replaces the whole table with every transaction, so there it is one for all.
"""

log = logging.getLogger(__name__)


class Unwritable(KernelUnavailable):
    """The kernel refuses what is there whatever the Services are, and not because it is busy."""


class Attempt(NamedTuple):
    """What one restore is to do."""

    owners: list[ObjectKey]
    strays: bool = False  # what nobody has goes as well


class Delivery:
    """One family's way into the kernel. Counts what was sent since `reset`.

    `doubts` and `refusals` count failed restores since the start: those after which the tables were read again, and
    those that failed for good, be it for one object.
    """

    def __init__(self, kernel: Iptables, tracker: Tracker) -> None:
        self._kernel, self.tracker = kernel, tracker
        self.failed: dict[ObjectKey, Failed] = {}
        self.doubts = self.refusals = 0
        self.reset()
        self.sweeping = False  # what nobody has is to go with the next write
        self._doubted = False  # the tables were read again in this round
        self._unsure = False  # a restore ended without saying how far it came
        self._stuck: set[str] = set()  # chains of nobody that others' rules lead to

    def reset(self) -> None:
        self.messages = self.lines = self.size = 0
        self.written: Counter[str] = Counter()  # rules by table

    def read(self) -> None:
        """Takes over what the kernel holds. Raises KernelUnavailable."""
        tables = Tables()
        for table in n.TABLES:
            tables.adopt(table, listing(self._kernel.save(self.tracker.family, table)))
        self.tracker.tables = tables
        self._unsure = False

    @property
    def pending(self) -> bool:
        return bool(self.tracker.dirty or self.sweeping)

    def write(self) -> None:
        """Makes all that is dirty so. Raises KernelUnavailable."""
        if self._unsure:
            self.read()
            self.tracker.suspect()
        self._doubted = False
        self._stuck.clear()
        before = [owner for owner in self.tracker.dirty if owner in self.failed]
        fresh = [owner for owner in self.tracker.dirty if owner not in self.failed]
        if fresh or self.sweeping:
            self._send(Attempt(fresh, self.sweeping))
        self.sweeping = False
        self._doubted = True
        for owner in before[:RETRIES]:
            self.failed[owner] = self.failed.pop(owner)  # the next ones are others
            self._send(Attempt([owner]))

    def _send(self, first: Attempt) -> None:
        work = [first]
        while work:
            work += reversed(self._attempt(work.pop()))

    def _attempt(self, attempt: Attempt) -> list[Attempt]:
        """One restore; what is to be tried instead where it was refused, in order."""
        changes = self._changes(attempt.owners)
        if attempt.strays:
            changes.append(self.tracker.strays(self._stuck))
        script = Script(self.tracker.tables, changes, MOST if self._kernel.flavour is Flavour.NFT else 0)
        refusal = self._restore(script) if script else None
        if refusal is None:
            self._note(script)
            for change in changes:
                self._settle(change.owner)
            return []
        sections, step = script.locate(refusal.line)
        self._note(script, sections)
        said = [change.owner for change in changes if change.owner is not None]
        return self._instead(Attempt(said, attempt.strays), step, refusal)

    def _note(self, script: Script, sections: int | None = None) -> None:
        """So many sections are in; None: all."""
        script.done(sections)
        self.written += script.rules(sections)

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
        self._unsure = True  # until it is known how far it came
        try:
            refusal = self._kernel.restore(self.tracker.family, text)
            if refusal is not None and refusal.busy:
                raise self._unavailable(refusal)
        except KernelUnavailable:
            self.refusals += 1
            raise
        self._unsure = False
        if refusal is not None:
            self.refusals += self._doubted
            self.doubts += not self._doubted
        return refusal

    def _unavailable(self, refusal: Refusal) -> KernelUnavailable:
        return KernelUnavailable(f"iptables: IPv{self.tracker.family} restore failed ({refusal.text}); it is retried")

    def _settle(self, owner: ObjectKey | None) -> None:
        if owner is not None:
            self.tracker.settle(owner)
            self.failed.pop(owner, None)

    def _instead(self, attempt: Attempt, step: Step | None, refusal: Refusal) -> list[Attempt]:
        """The tables may not be as we think: they are read again once; then whatever was refused is left out."""
        if not self._doubted:
            self._doubted = True
            log.warning("iptables: IPv%d restore failed (%s), reading again", self.tracker.family, refusal.text)
            self.read()
            self.tracker.suspect()
            return [Attempt([each for each in self.tracker.dirty if each not in self.failed], attempt.strays)]
        owners = attempt.owners
        last = [Attempt([], strays=True)] if attempt.strays else []
        if step is not None and step.owner is None and step.text.startswith("-X "):
            self._stuck.add(step.text.removeprefix("-X "))
            return [Attempt(owners), *last] if owners else last
        if not owners:
            log.warning("iptables: chains that nobody has any more stay: %s", refusal.text)
            return []
        guilty = step.owner if step else None
        if guilty is None and len(owners) > 1:
            return [*_halves(owners), *last]
        guilty = guilty or owners[0]
        if guilty == NODE:
            raise Unwritable(str(self._unavailable(refusal)))
        self._fail(guilty, refusal)
        at = owners.index(guilty)
        return [*(Attempt(some) for some in [owners[:at]] if some), *_halves(owners[at + 1 :]), *last]

    def _fail(self, owner: ObjectKey, refusal: Refusal) -> None:
        text = f"{owner}: iptables-restore refused it ({refusal.text})"
        self.failed[owner] = Failed(owner, "KERNEL_REJECTED", text)


def _halves(owners: list[ObjectKey]) -> list[Attempt]:
    """The base by itself, then two halves: however many are refused, each is sent again but a few times."""
    first, rest = (owners[:1], owners[1:]) if owners[:1] == [NODE] else ([], owners)
    middle = (len(rest) + 1) // 2
    return [Attempt(some) for some in (first, rest[:middle], rest[middle:]) if some]
