"""What Services and the node want of the tables, by identity (`render.identity`, `render.members`).

`dataplane` puts Services in; `pending` takes differences out. Does not know messages or kernels.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane import widths
from nodeagent.dataplane.nftables import render
from nodeagent.dataplane.nftables.render import Placement
from nodeagent.dataplane.nftables.slots import split
from nodeagent.dataplane.tracker import NODE, Members, Tracker

WIDTHS = {4: 8, 6: 20}  # bytes of an endpoint value by family


class Desired:
    """Frontends and set members of all families: wanted, in the kernel, pending."""

    def __init__(self, families: Iterable[int]) -> None:
        self.families = frozenset(families)
        self.frontends: Tracker[bytes, Placement] = Tracker()
        self.members: Members[bytes] = Members()
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
        self.frontends.hold(service.key, placements)
        self.members.hold(service.key, members)

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
            self.members.pending.update((m, None) for m in self.members.actual if m[1] in render.OF_NODE)
        self.members.hold(NODE, tuple(m for m in members if m[0] in self.families))

    def leave_out(self, family: int) -> None:
        """Wants nothing of this family any more."""
        self.families -= {family}
        self.frontends.leave_out(lambda frontend: frontend[0] == family)
        self.members.leave_out(lambda member: member[0] == family)

    def remove(self, owner: ObjectKey) -> None:
        self.frontends.hold(owner, {})
        self.members.hold(owner, ())

    def owners(self) -> set[ObjectKey]:
        """Everything that wants something."""
        return {*self.frontends.owners(), *self.members.owners()}

    def retire(self) -> None:
        """What the kernel has and nobody wants is to go; the node's own only once the node is known."""
        self.frontends.pending.update(dict.fromkeys(self.frontends.undesired()))
        gone = self.members.undesired()
        self.members.pending.update((m, None) for m in gone if self._node_known or m[1] not in render.OF_NODE)

    def forget(self) -> None:
        """The kernel's state is unknown or void: everything wanted may differ."""
        self.frontends.forget()
        self.members.forget()

    def settled(self, frontend: bytes) -> bool:
        """True where kernel and wish agree, whatever the slots' order."""
        claim, actual = self.frontends.desired.get(frontend), self.frontends.actual.get(frontend)
        if claim is None or actual is None:
            return claim is None and actual is None
        return same(claim.value, actual, WIDTHS[frontend[0]])


def same(wanted: Placement, actual: Placement, width: int) -> bool:
    """True where two placements mean the same: equal but for the order of their slots."""
    if wanted == actual:
        return True
    if (wanted.chain, wanted.refusal, wanted.firewall) != (actual.chain, actual.refusal, actual.firewall):
        return False
    return _equal(wanted.slots, actual.slots, width) and _equal(wanted.local, actual.local, width)


def _equal(one: bytes, other: bytes, width: int) -> bool:
    return one == other or (len(one) == len(other) and sorted(split(one, width)) == sorted(split(other, width)))
