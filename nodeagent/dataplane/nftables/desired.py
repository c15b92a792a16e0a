"""What Services and the node want of the tables, by identity (`frontend_key`, `set_members`).

`dataplane` puts Services in; `pending` takes differences out. Does not know messages or kernels.
"""

from __future__ import annotations

from collections.abc import Iterable

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane import set_members, widths
from nodeagent.dataplane.frontend_key import identity
from nodeagent.dataplane.nftables import render
from nodeagent.dataplane.nftables.render import Placement
from nodeagent.dataplane.nftables.slots import ENDPOINT_WIDTHS, split
from nodeagent.dataplane.tracker import NODE, Slots


class Desired(Slots[Placement]):
    """As `Slots`, of Services and the node in these families."""

    def __init__(self, families: Iterable[int]) -> None:
        super().__init__()
        self.families = frozenset(families)

    def put(self, service: ServiceForwarding) -> None:
        """Takes what a Service means now. Raises ValueError, changing nothing, for an entry the tables cannot hold."""
        placements: dict[bytes, Placement] = {}
        for entry in service.entries:
            if entry.frontend.family in self.families:
                widths.check(entry)
                placements[identity(entry)] = render.place(entry, service.key)
        widths.check_hairpins(service.hairpins)
        members = tuple(member for member in set_members.members(service) if member[0] in self.families)
        self.hold(service.key, placements, members)

    def put_node(self, node: NodeForwarding) -> None:
        """Takes where node ports answer, the CIDRs of ClusterIPs and of the node's pods. Raises ValueError."""
        members = set_members.node_members(node)
        if not self._node_known:
            self.members.pending.update((m, None) for m in self.members.actual if m[1] in set_members.OF_NODE)
        self.hold(NODE, {}, tuple(m for m in members if m[0] in self.families))

    def leave_out(self, family: int) -> None:
        """Wants nothing of this family any more."""
        self.families -= {family}
        self.frontends.leave_out(lambda frontend: frontend[0] == family)
        self.members.leave_out(lambda member: member[0] == family)

    def remove(self, owner: ObjectKey) -> None:
        self.hold(owner, {})

    def owners(self) -> set[ObjectKey]:
        """Everything that wants something."""
        return {*self.frontends.owners(), *self.members.owners()}

    def forget(self) -> None:
        """The kernel's state is unknown or void: everything wanted may differ."""
        self.frontends.forget()
        self.members.forget()

    def settled(self, frontend: bytes) -> bool:
        """True where kernel and wish agree, whatever the slots' order."""
        claim, actual = self.frontends.desired.get(frontend), self.frontends.actual.get(frontend)
        if claim is None or actual is None:
            return claim is None and actual is None
        return same(claim.value, actual, ENDPOINT_WIDTHS[frontend[0]])


def same(wanted: Placement, actual: Placement, width: int) -> bool:
    """True where two placements mean the same: equal but for the order of their slots."""
    if wanted == actual:
        return True
    if (wanted.chain, wanted.refusal, wanted.firewall) != (actual.chain, actual.refusal, actual.firewall):
        return False
    return _equal(wanted.slots, actual.slots, width) and _equal(wanted.local, actual.local, width)


def _equal(one: bytes, other: bytes, width: int) -> bool:
    return one == other or (len(one) == len(other) and sorted(split(one, width)) == sorted(split(other, width)))
