"""What differs between wish and kernel, as changes in the order they are to be made, and what came of them.

`dataplane` asks for changes and tells what delivery did with them. Keeps what was refused, what stands in the kernel
without fitting any list, and which private chains are in use. Does not know messages or kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from nodeagent.dataplane import frontend_key, set_members
from nodeagent.dataplane.nftables.chain_gc import Use
from nodeagent.dataplane.nftables.changes import EMPTY, Change, frontend_change, member_change
from nodeagent.dataplane.nftables.desired import Desired
from nodeagent.dataplane.nftables.render import Placement
from nodeagent.dataplane.nftables.shared import is_private
from nodeagent.dataplane.outcome import Failed, refused_object
from nodeagent.dataplane.tracker import NODE, Claim
from nodeagent.linux.nft.transaction import Operation


class Pending:
    """Between what is wanted and the kernel."""

    def __init__(self, desired: Desired) -> None:
        self.strays: dict[bytes, list[Operation]] = {}
        self.failed: dict[bytes, Failed] = {}  # by frontend or member
        self.uses: Counter[Use] = Counter()  # how many frontends in the kernel go to a private chain
        self.released: set[Use] = set()  # private chains that nothing went to any more, at some time
        self._desired = desired

    def adopt(self, frontends: dict[bytes, Placement], strays: dict[bytes, list[Operation]]) -> None:
        """Takes over what the kernel holds of a family."""
        self._desired.frontends.actual.update(frontends)
        self.strays.update(strays)
        for frontend, placement in frontends.items():
            self.uses.update((frontend[0], name) for name in _private(placement))

    def forget(self) -> None:
        """The kernel's state is unknown or void."""
        self._desired.forget()
        self.strays.clear()
        self.uses.clear()
        self.released.clear()

    def retire(self) -> None:
        """What the kernel has and no owner wants is to go."""
        self._desired.retire()
        self._desired.frontends.pending.update(dict.fromkeys(self.strays))

    def __len__(self) -> int:
        """How many frontends are to be looked at."""
        return len(self._desired.frontends.pending)

    def changes(self, family: int = 0) -> Iterator[Change]:
        """Everything that differs, or that of one family, made as needed.

        A Service's set members come with its first frontend, removals last; but for ranges, which go before others
        come: to the kernel a range is two elements, and those that overlap share them.
        """
        frontends, members = self._desired.frontends, self._desired.members
        offered = {member for member in members.pending if family and member[0] != family}
        gone: list[bytes] = []
        yield from self._members(self._ranges_to_go(), offered)
        for frontend in list(frontends.pending):
            if family and frontend[0] != family:
                continue
            claim = frontends.desired.get(frontend)
            if claim is None:
                gone.append(frontend)
                continue
            if members.pending:
                yield from self._members(members.of(claim.owner), offered)
            yield from self._frontend(frontend, claim)
        yield from self._members([member for member in members.pending if member in members], offered)
        for frontend in gone:
            yield from self._frontend(frontend, None)
        yield from self._members(list(members.pending), offered)

    def _ranges_to_go(self) -> list[bytes]:
        members = self._desired.members
        return [m for m in members.pending if m[1] in set_members.RANGE_MEMBERS and m not in members]

    def _frontend(self, frontend: bytes, claim: Claim[Placement] | None) -> Iterator[Change]:
        """The change of a frontend, if there is one."""
        frontends, strays = self._desired.frontends, self.strays.get(frontend, [])
        owner, placement = claim or (NODE, None)
        change = frontend_change(owner, frontend, frontends.actual.get(frontend), placement, strays)
        if change is not None:
            yield change
        else:
            frontends.pending.pop(frontend, None)
            self.failed.pop(frontend, None)

    def _members(self, among: Iterable[bytes], offered: set[bytes]) -> Iterator[Change]:
        """The changes of those members that differ and were not offered before."""
        members = self._desired.members
        for member in among:
            if member in offered or member not in members.pending:
                continue
            offered.add(member)
            owner = members.owner(member)
            if (owner is not None) is not (member in members.actual):
                yield member_change(owner or NODE, member, owner is not None)
            else:
                members.pending.pop(member, None)
                self.failed.pop(member, None)

    def settle(self, done: Iterable[Change], refused: Iterable[tuple[Change, object]]) -> None:
        """Notes what a delivery did and did not; refusals with the reason, which is shown."""
        for change in done:
            if change.member:
                self._desired.members.settle(change.identity, present=change.present)
            else:
                self._settle_frontend(change)
            self.failed.pop(change.identity, None)
        for change, why in refused:
            name = (set_members if change.member else frontend_key).name_of(change.identity)
            self.failed[change.identity] = refused_object(change.owner, name, str(why))
        for pending in (self._desired.frontends.pending, self._desired.members.pending):
            if not pending:
                pending.clear()  # one that was big stays as long to walk through as it was, until it is cleared

    def _settle_frontend(self, change: Change) -> None:
        frontends, frontend = self._desired.frontends, change.identity
        before = frontends.actual.get(frontend, EMPTY)
        frontends.settle(frontend, change.after)
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


def _private(placement: Placement) -> list[str]:
    return [name for name in (placement.chain, placement.firewall) if is_private(name)]
