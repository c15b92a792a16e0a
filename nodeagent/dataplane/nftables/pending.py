"""What differs between wish and kernel, as changes in the order they are to be made, and what came of them.

`dataplane` asks for changes and tells what delivery did with them. Keeps what was refused, what stands in the kernel
without fitting any list, and which private chains are in use. Does not know messages or kernels.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from nodeagent.dataplane.api import Failed
from nodeagent.dataplane.nftables.chain_gc import Use
from nodeagent.dataplane.nftables.changes import EMPTY, Change, Operation, frontend_change, member_change
from nodeagent.dataplane.nftables.naming import describe, name_of
from nodeagent.dataplane.nftables.render import RANGE_MEMBERS, Placement
from nodeagent.dataplane.nftables.shared import is_private
from nodeagent.dataplane.nftables.tracker import NODE, Claim, Tracker


class Ledger:
    """Between the tracker and the kernel."""

    def __init__(self, tracker: Tracker) -> None:
        self.strays: dict[bytes, list[Operation]] = {}
        self.failed: dict[bytes, Failed] = {}  # by frontend or member
        self.uses: Counter[Use] = Counter()  # how many frontends in the kernel go to a private chain
        self.released: set[Use] = set()  # private chains that nothing went to any more, at some time
        self._tracker = tracker

    def adopt(self, frontends: dict[bytes, Placement], strays: dict[bytes, list[Operation]]) -> None:
        """Takes over what the kernel holds of a family."""
        self._tracker.frontends.update(frontends)
        self.strays.update(strays)
        for frontend, placement in frontends.items():
            self.uses.update((frontend[0], name) for name in _private(placement))

    def forget(self) -> None:
        """The kernel's state is unknown or void."""
        self._tracker.forget()
        self.strays.clear()
        self.uses.clear()
        self.released.clear()

    def changes(self, family: int = 0) -> Iterator[Change]:
        """Everything that differs, or that of one family, made as needed.

        A Service's set members come with its first frontend, removals last; but for ranges, which go before others
        come: to the kernel a range is two elements, and those that overlap share them.
        """
        tracker = self._tracker
        offered = {member for member in tracker.dirty_members if family and member[0] != family}
        gone: list[bytes] = []
        yield from self._members(self._ranges_to_go(), offered)
        for frontend in list(tracker.dirty):
            if family and frontend[0] != family:
                continue
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

    def _ranges_to_go(self) -> list[bytes]:
        tracker = self._tracker
        return [m for m in tracker.dirty_members if m[1] in RANGE_MEMBERS and tracker.wants(m) is None]

    def _frontend(self, frontend: bytes, claim: Claim | None) -> Iterator[Change]:
        """The change of a frontend, if there is one."""
        tracker, strays = self._tracker, self.strays.get(frontend, [])
        owner, placement = (claim.owner, claim.placement) if claim else (NODE, None)
        change = frontend_change(owner, frontend, tracker.frontends.get(frontend), placement, strays)
        if change is not None:
            yield change
        else:
            tracker.dirty.pop(frontend, None)
            self.failed.pop(frontend, None)

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
                self.failed.pop(member, None)

    def settle(self, done: Iterable[Change], refused: Iterable[tuple[Change, int]]) -> None:
        """Notes what a delivery did and did not; refusals with their errno."""
        for change in done:
            if change.member:
                self._settle_member(change)
            else:
                self._settle_frontend(change)
            self.failed.pop(change.identity, None)
        for change, code in refused:
            reason = f"the kernel refused {describe(change)}: {os.strerror(code)}"
            text = f"{change.owner}: {reason}; tried again with the next change"
            self.failed[change.identity] = Failed(change.owner, "KERNEL_REJECTED", text)
        for dirty in (self._tracker.dirty, self._tracker.dirty_members):
            if not dirty:
                dirty.clear()  # one that was big stays as long to walk through as it was, until it is cleared

    def _settle_member(self, change: Change) -> None:
        tracker = self._tracker
        (tracker.members.add if change.present else tracker.members.discard)(change.identity)
        tracker.dirty_members.pop(change.identity, None)

    def _settle_frontend(self, change: Change) -> None:
        tracker, frontend = self._tracker, change.identity
        before = tracker.frontends.get(frontend, EMPTY)
        if change.after is None:
            tracker.frontends.pop(frontend, None)
        else:
            tracker.frontends[frontend] = change.after
        tracker.dirty.pop(frontend, None)
        self.strays.pop(frontend, None)
        if "/" in before.chain or before.firewall or change.needs:
            self._count(frontend[0], before, change.after or EMPTY)

    def _count(self, family: int, before: Placement, after: Placement) -> None:
        self.uses.update((family, name) for name in _private(after))
        for name in _private(before):
            self.uses[family, name] -= 1
            if not self.uses[family, name]:
                del self.uses[family, name]
                self.released.add((family, name))

    def failures(self) -> Iterator[Failed]:
        """What the kernel refused, and Services that wait for an address or a node port of another one."""
        yield from self.failed.values()
        for frontend, losers in self._tracker.conflicts.items():
            claim = self._tracker.wanted(frontend)
            holder = claim.owner if claim else "nobody"
            for loser in losers:
                text = f"{loser}: {name_of(frontend)} belongs to {holder}: change one of them"
                yield Failed(loser, "CONFLICT", text)


def _private(placement: Placement) -> list[str]:
    return [name for name in (placement.chain, placement.firewall) if is_private(name)]
