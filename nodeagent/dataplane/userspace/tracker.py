"""Which redirects are wanted, which stand, and which of them differ. Pure.

A *slot* is a frontend (`frontend_key`) or a set's member (`set_members`); its *placement* says
what stands for it, map by map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from deltaplane.model import ObjectKey
from nodeagent.dataplane import tracker
from nodeagent.dataplane.frontend_key import is_frontend
from nodeagent.dataplane.tracker import NODE

Value = bytes | str  # packed, b"" for a member, or a verdict: "reject", "drop"
Placement = tuple[tuple[str, Value], ...]  # maps and values, sorted

REDIRECTS, OUTSIDE = "redirects", "redirects-outside"
NODE_PORTS, NODE_PORTS_OUTSIDE = "redirects-nodeports", "redirects-nodeports-outside"
REFUSALS, REFUSALS_OUTSIDE = "no-endpoint-services", "no-endpoint-services-outside"
NODE_REFUSALS, NODE_REFUSALS_OUTSIDE = "no-endpoint-nodeports", "no-endpoint-nodeports-outside"
MEMBER = "member"


class Difference(NamedTuple):
    """A slot on its way; `after` empty: it is to be gone."""

    owner: ObjectKey
    slot: bytes
    before: Placement
    after: Placement


def leads(placement: Placement) -> bool:
    """Whether it leads to a listener, and is no member of a set and no refusal."""
    return any(isinstance(value, bytes) and value for _, value in placement)


STANDS: Placement = ((MEMBER, b""),)  # the placement of every set member


class Slots(tracker.Slots[Placement]):
    """As `tracker.Slots`: what stands, and the differences."""

    def differences(self) -> Iterator[Difference]:
        """What is to be written: everything to come and to change in the order it was wanted, then what is to go."""
        gone: list[Difference] = []
        for slot in self._order():
            found = self._difference(slot)
            if found.before == found.after:
                (self.frontends if is_frontend(slot) else self.members).pending.pop(slot, None)
            elif found.after:
                yield found
            else:
                gone.append(found)
        yield from gone

    def _order(self) -> dict[bytes, None]:
        """Slots that may differ: the node's, then each Service's members before its first frontend."""
        order = dict.fromkeys(self.members.of(NODE))
        for slot in self.frontends.pending:
            claim = self.frontends.desired.get(slot)
            if claim is not None:
                order.update(dict.fromkeys(self.members.of(claim.owner)))
            order[slot] = None
        order.update(self.members.pending)
        return order

    def _difference(self, slot: bytes) -> Difference:
        if is_frontend(slot):
            owner, after = self.frontends.desired.get(slot) or (NODE, ())
            return Difference(owner, slot, self.frontends.actual.get(slot, ()), after)
        wants = self.members.owner(slot)
        stands = STANDS if slot in self.members.actual else ()
        return Difference(wants or NODE, slot, stands, () if wants is None else STANDS)

    def settle(self, done: Iterable[Difference]) -> None:
        """These stand now as they should."""
        for _, slot, _, after in done:
            if is_frontend(slot):
                self.frontends.settle(slot, after or None)
            else:
                self.members.settle(slot, present=bool(after))

    def forget(self, standing: Mapping[bytes, Placement]) -> None:
        """What stands was read (again): everything wanted may differ."""
        self.frontends.forget({slot: placement for slot, placement in standing.items() if is_frontend(slot)})
        self.members.forget(slot for slot in standing if not is_frontend(slot))
