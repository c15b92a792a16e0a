"""Gets changes into the kernel: one restore for all, and what to do where the program refuses one.

Between the pure parts and the programs; called by `dataplane`.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import NamedTuple

from deltaplane.model import ObjectKey
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.script import Script, Step
from nodeagent.dataplane.iptables.tables import Tables
from nodeagent.dataplane.iptables.tracker import Tracker
from nodeagent.dataplane.outcome import Drifted, Failed, Round, Sent
from nodeagent.dataplane.refusals import halves
from nodeagent.dataplane.tracker import NODE
from nodeagent.errors import KernelUnavailable, Unsure
from nodeagent.linux.iptables.programs import Iptables, Refusal
from nodeagent.linux.iptables.removal import most_of
from nodeagent.linux.iptables.saved import listing

RETRIES = 8  # objects that failed before and are tried again with one apply, each with a restore of its own

log = logging.getLogger(__name__)


class Unwritable(KernelUnavailable):
    """The kernel refuses what is there whatever the Services are, and not because it is busy."""


class Attempt(NamedTuple):
    """What one restore is to do."""

    owners: list[ObjectKey]
    strays: bool = False  # what no owner has goes as well


class Delivery:
    """One family's way into the kernel. `written` counts the rules of the last `write`, by table.

    `doubts` and `refusals` count failed restores since the start: those after which the tables were read again, and
    those that failed for good, be it for one object.
    """

    def __init__(self, kernel: Iptables, tracker: Tracker) -> None:
        self._kernel, self.tracker = kernel, tracker
        self.failed: dict[ObjectKey, Failed] = {}
        self.written: Counter[str] = Counter()
        self.doubts = self.refusals = 0
        self._retiring = False
        self._doubted = False  # a refusal had the tables read again: the next one is the object's
        self._stuck: set[str] = set()  # chains without an owner that others' rules lead to

    def read(self) -> None:
        """Takes over what the kernel holds: everything may differ. Raises KernelUnavailable."""
        tables = Tables()
        for table in n.TABLES:
            tables.adopt(table, listing(self._kernel.save(self.tracker.family, table)))
        self.tracker.adopt(tables)

    def retire(self) -> None:
        """What no owner has is to go with the next write."""
        self._retiring = True

    @property
    def pending(self) -> bool:
        return bool(self.tracker.dirty or self._retiring)

    def write(self, sent: Sent, this: Round) -> None:
        """Makes all that is dirty so. Raises Drifted for the first refusal, Unsure, Unwritable.

        The tables may not be as we think: they are read again once; then whatever is refused is left out.
        """
        self._doubted = this.last or (this.again and self._doubted)
        self._stuck.clear()
        self.written.clear()
        before = [owner for owner in self.tracker.dirty if owner in self.failed]
        fresh = [owner for owner in self.tracker.dirty if owner not in self.failed]
        if fresh or self._retiring:
            self._send(Attempt(fresh, self._retiring), sent)
        self._retiring = False
        self._doubted = True
        for owner in before[:RETRIES]:
            self.failed[owner] = self.failed.pop(owner)  # the next ones are others
            self._send(Attempt([owner]), sent)
        self._doubted = False

    def _send(self, first: Attempt, sent: Sent) -> None:
        work = [first]
        while work:
            work += reversed(self._attempt(work.pop(), sent))

    def _attempt(self, attempt: Attempt, sent: Sent) -> list[Attempt]:
        """One restore; what is to be tried instead where it was refused, in order."""
        changes = [self.tracker.change(owner) for owner in attempt.owners]
        if attempt.strays:
            changes.append(self.tracker.strays(self._stuck))
        script = Script(self.tracker.tables, changes, most_of(self._kernel.flavour))
        refusal = self._restore(script, sent) if script else None
        if refusal is None:
            self._note(script)
            for change in changes:
                self._settle(change.owner)
            return []
        sections, step = script.locate(refusal.line)
        self._note(script, sections)
        if not self._doubted:
            self._doubted = True
            log.warning("iptables: IPv%d restore failed (%s)", self.tracker.family, refusal.text)
            raise Drifted
        return self._instead(attempt, step, refusal)

    def _note(self, script: Script, sections: int | None = None) -> None:
        """So many sections are in; None: all."""
        script.done(sections)
        self.written += script.rules(sections)

    def _restore(self, script: Script, sent: Sent) -> Refusal | None:
        """Raises Unsure where it is not known how far it came."""
        text = script.text()
        sent.messages += 1
        sent.elements += script.lines
        sent.size += len(text)
        try:
            refusal = self._kernel.restore(self.tracker.family, text)
        except KernelUnavailable as error:
            self.refusals += 1
            raise Unsure(str(error)) from error
        if refusal is not None:
            self.refusals += self._doubted or refusal.busy
            self.doubts += not self._doubted and not refusal.busy
            if refusal.busy:
                raise Unsure(self._unavailable(refusal))
        return refusal

    def _unavailable(self, refusal: Refusal) -> str:
        return f"iptables: IPv{self.tracker.family} restore failed ({refusal.text}); it is retried"

    def _settle(self, owner: ObjectKey | None) -> None:
        if owner is not None:
            self.tracker.settle(owner)
            self.failed.pop(owner, None)

    def _instead(self, attempt: Attempt, step: Step | None, refusal: Refusal) -> list[Attempt]:
        """Without what was refused."""
        owners = attempt.owners
        last = [Attempt([], strays=True)] if attempt.strays else []
        if step is not None and step.owner is None and step.text.startswith("-X "):
            self._stuck.add(step.text.removeprefix("-X "))
            return [Attempt(owners), *last] if owners else last
        if not owners:
            log.warning("iptables: chains that no owner has any more stay: %s", refusal.text)
            return []
        guilty = step.owner if step else None
        if guilty is None and len(owners) > 1:
            return [*_halves(owners), *last]
        guilty = guilty or owners[0]
        if guilty == NODE:
            raise Unwritable(self._unavailable(refusal))
        self._fail(guilty, refusal)
        at = owners.index(guilty)
        return [*(Attempt(some) for some in [owners[:at]] if some), *_halves(owners[at + 1 :]), *last]

    def _fail(self, owner: ObjectKey, refusal: Refusal) -> None:
        text = f"{owner}: iptables-restore refused it ({refusal.text})"
        self.failed[owner] = Failed(owner, "KERNEL_REJECTED", text)


def _halves(owners: list[ObjectKey]) -> list[Attempt]:
    """The base by itself, then two halves: however many are refused, each is sent again but a few times."""
    base = [NODE] if owners[:1] == [NODE] else []
    return [Attempt(list(some)) for some in (base, *halves(owners[len(base) :])) if some]
