"""What is wanted of the tables, what they hold, and which of it differs.

`dataplane` puts Services in and takes differences out; setting a value back cancels the difference by itself. Two
Services may claim one frontend (two node ports, two external IPs): the one whose namespace and name sort first has it,
the other is in conflict until it goes. Set members (`render.members`) may be wanted by several at once and stand while
one wants them. Does not know messages or kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane import widths
from nodeagent.dataplane.nftables import render
from nodeagent.dataplane.nftables.refcounts import Wishes
from nodeagent.dataplane.nftables.render import Placement
from nodeagent.dataplane.nftables.slots import split

NODE = ObjectKey(Kind.NODE, "", "")
WIDTHS = {4: 8, 6: 20}  # bytes of an endpoint value by family


class Claim(NamedTuple):
    """A Service's wish for a frontend."""

    owner: ObjectKey
    placement: Placement


class Holding(NamedTuple):
    """The identities one Service has claims on."""

    frontends: tuple[bytes, ...] = ()
    members: tuple[bytes, ...] = ()


_NOTHING = Holding()


class Tracker:
    """Desired, actual and pending state of all families, by identity (`render.identity`, `render.members`)."""

    def __init__(self, families: Iterable[int]) -> None:
        self.families = frozenset(families)
        self.frontends: dict[bytes, Placement] = {}  # in the kernel
        self.members: set[bytes] = set()  # in the kernel
        self.dirty: dict[bytes, None] = {}  # frontends that may differ, in the order they were wanted
        self.dirty_members: dict[bytes, None] = {}
        self.conflicts: dict[bytes, tuple[ObjectKey, ...]] = {}  # contested frontends: who is waiting
        self._claims: dict[bytes, tuple[Claim, ...]] = {}  # the holder first
        self._wishes = Wishes()
        self._holdings: dict[ObjectKey, Holding] = {}
        self._node_known = False

    def put(self, service: ServiceForwarding) -> None:
        """Takes what a Service means now. Raises ValueError, changing nothing, for an entry the tables cannot hold."""
        placements: dict[bytes, Placement] = {}
        for entry in service.entries:
            if entry.frontend.family in self.families:
                widths.check(entry)
                self._place(placements, render.identity(entry), render.place(entry, service.key))
        widths.check_hairpins(service.hairpins)
        members = tuple(member for member in render.members(service) if member[0] in self.families)
        self._hold(service.key, placements, members)

    @staticmethod
    def _place(placements: dict[bytes, Placement], frontend: bytes, placement: Placement) -> None:
        """An address that is given twice is the first one's, but closed to the sources that either closes it to."""
        before = placements.setdefault(frontend, placement)
        if placement.firewall and not before.firewall:
            placements[frontend] = replace(before, firewall=placement.firewall, ranges=placement.ranges)

    def put_node(self, node: NodeForwarding) -> None:
        """Takes where node ports answer, the CIDRs of ClusterIPs and of the node's pods. Raises ValueError."""
        members = render.node_members(node)
        if not self._node_known:
            self._node_known = True
            self.dirty_members.update((m, None) for m in self.members if m[1] in render.OF_NODE)
        self._hold(NODE, {}, tuple(m for m in members if m[0] in self.families))

    def leave_out(self, family: int) -> None:
        """Wants nothing of this family any more."""
        self.families -= {family}
        self._wishes.leave_out(family)
        for table in (self.dirty, self.dirty_members, self.frontends, self._claims, self.conflicts):
            for identity in [identity for identity in table if identity[0] == family]:
                del table[identity]
        self.members = {member for member in self.members if member[0] != family}
        for owner, held in self._holdings.items():
            frontends, members = (tuple(i for i in held_ids if i[0] != family) for held_ids in held)
            self._holdings[owner] = Holding(frontends, members)

    def remove(self, owner: ObjectKey) -> None:
        self._hold(owner, {}, ())

    def owners(self) -> Iterator[ObjectKey]:
        """Everything that has claims, the node aside."""
        return (owner for owner in list(self._holdings) if owner is not NODE)

    def wanted(self, frontend: bytes) -> Claim | None:
        """The claim that stands for a frontend."""
        claims = self._claims.get(frontend)
        return claims[0] if claims else None

    def wants(self, member: bytes) -> ObjectKey | None:
        """One that wants a set's member."""
        return self._wishes.first(member)

    def members_of(self, owner: ObjectKey) -> tuple[bytes, ...]:
        """The set members an owner wants."""
        return self._holdings.get(owner, _NOTHING).members

    def unclaimed(self) -> tuple[list[bytes], list[bytes]]:
        """Frontends and members the kernel has and nobody wants; the node's own only once the node is known."""
        frontends = [frontend for frontend in self.frontends if frontend not in self._claims]
        members = [member for member in self.members if member not in self._wishes]
        if not self._node_known:
            members = [member for member in members if member[1] not in render.OF_NODE]
        return frontends, members

    def forget(self) -> None:
        """The kernel's state is unknown or void: everything wanted may differ."""
        self.frontends.clear()
        self.members.clear()
        self.dirty.update(dict.fromkeys(self._claims))
        self.dirty_members.update(dict.fromkeys(self._wishes))

    def settled(self, frontend: bytes) -> bool:
        """True where kernel and wish agree, whatever the slots' order."""
        claim, actual = self.wanted(frontend), self.frontends.get(frontend)
        if claim is None or actual is None:
            return claim is None and actual is None
        return same(claim.placement, actual, WIDTHS[frontend[0]])

    def _hold(self, owner: ObjectKey, placements: dict[bytes, Placement], members: tuple[bytes, ...]) -> None:
        before = self._holdings.get(owner, _NOTHING)
        for frontend in before.frontends:
            if frontend not in placements:
                self._claim(frontend, owner, None)
        for frontend, placement in placements.items():
            self._claim(frontend, owner, placement)
        if members != before.members:
            self._wish(owner, before.members, members)
        if placements or members:
            self._holdings[owner] = Holding(tuple(placements), members)
        else:
            self._holdings.pop(owner, None)

    def _claim(self, frontend: bytes, owner: ObjectKey, placement: Placement | None) -> None:
        claims = self._claims.get(frontend, ())
        if len(claims) == 1 and claims[0].owner == owner and claims[0].placement == placement:
            if self.frontends.get(frontend) is not placement:
                self.dirty[frontend] = None  # it may have failed, or been adopted in another order
            return
        rest = [claim for claim in claims if claim.owner != owner]
        if placement is not None:
            rest.append(Claim(owner, placement))
        if len(rest) > 1:
            rest.sort(key=lambda claim: claim.owner)
            self.conflicts[frontend] = tuple(claim.owner for claim in rest[1:])
        elif len(claims) > 1:
            self.conflicts.pop(frontend, None)
        if rest:
            self._claims[frontend] = tuple(rest)
        else:
            self._claims.pop(frontend, None)
        self.dirty[frontend] = None

    def _wish(self, owner: ObjectKey, before: tuple[bytes, ...], after: tuple[bytes, ...]) -> None:
        for member in set(after).difference(before):
            self._wishes.add(member, owner)
            self.dirty_members[member] = None
        for member in set(before).difference(after):
            self._wishes.drop(member, owner)
            self.dirty_members[member] = None


def same(wanted: Placement, actual: Placement, width: int) -> bool:
    """True where two placements mean the same: equal but for the order of their slots."""
    if wanted == actual:
        return True
    if (wanted.chain, wanted.refusal, wanted.firewall) != (actual.chain, actual.refusal, actual.firewall):
        return False
    return _equal(wanted.slots, actual.slots, width) and _equal(wanted.local, actual.local, width)


def _equal(one: bytes, other: bytes, width: int) -> bool:
    return one == other or (len(one) == len(other) and sorted(split(one, width)) == sorted(split(other, width)))
