"""Which redirects are wanted, which stand, and which of them differ. Pure; the model is nftables mode's tracker.

A *slot* is a frontend (`nftables.render.identity`) or a set's member (`nftables.render.members`); its *placement* says
what stands for it, map by map. Two Services may claim one frontend: the one whose namespace and name sort first has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.nftables import render

Value = bytes | str  # packed, b"" for a member, or a verdict: "reject", "drop"
Placement = tuple[tuple[str, Value], ...]  # maps and values, sorted

NODE = ObjectKey(Kind.NODE, "", "")
REDIRECTS, OUTSIDE = "redirects", "redirects-outside"
NODE_PORTS, NODE_PORTS_OUTSIDE = "redirects-nodeports", "redirects-nodeports-outside"
REFUSALS, REFUSALS_OUTSIDE = "no-endpoint-services", "no-endpoint-services-outside"
NODE_REFUSALS, NODE_REFUSALS_OUTSIDE = "no-endpoint-nodeports", "no-endpoint-nodeports-outside"
MEMBER = "member"
_FRONTENDS = (9, 13, 25)  # bytes: no member has as many


class Difference(NamedTuple):
    """A slot on its way; `after` empty: it is to be gone."""

    owner: ObjectKey
    slot: bytes
    before: Placement
    after: Placement


def is_frontend(slot: bytes) -> bool:
    return len(slot) in _FRONTENDS


def leads(placement: Placement) -> bool:
    """Whether it leads to a listener, and is no member of a set and no refusal."""
    return any(isinstance(value, bytes) and value for _, value in placement)


STANDS: Placement = ((MEMBER, b""),)  # the placement of every set member


class Tracker:
    """Wanted, standing and differing slots of all families."""

    def __init__(self) -> None:
        self.standing: dict[bytes, Placement] = {}
        self.dirty: dict[bytes, None] = {}  # slots that may differ, in the order they were wanted
        self._claims: dict[bytes, tuple[tuple[ObjectKey, Placement], ...]] = {}  # the holder first
        self._holdings: dict[ObjectKey, tuple[bytes, ...]] = {}
        self._contested: set[bytes] = set()
        self._node_known = False

    def hold(self, owner: ObjectKey, placements: Mapping[bytes, Placement]) -> None:
        """Takes all that an owner wants now."""
        self._node_known = self._node_known or owner == NODE
        for slot in self._holdings.get(owner, ()):
            if slot not in placements:
                self._claim(slot, owner, None)
        for slot, placement in placements.items():
            self._claim(slot, owner, placement)
        if placements:
            self._holdings[owner] = tuple(placements)
        else:
            self._holdings.pop(owner, None)

    def owners(self) -> list[ObjectKey]:
        """Everything that holds something, the node aside."""
        return [owner for owner in self._holdings if owner != NODE]

    def wanted(self, slot: bytes) -> tuple[ObjectKey, Placement] | None:
        claims = self._claims.get(slot)
        return claims[0] if claims else None

    def differences(self) -> Iterator[Difference]:
        """What is to be written: everything to come and to change in the order it was wanted, then what is to go."""
        gone: list[Difference] = []
        for slot in list(self.dirty):
            owner, after = self.wanted(slot) or (NODE, ())
            before = self.standing.get(slot, ())
            if before == after:
                del self.dirty[slot]
            elif after:
                yield Difference(owner, slot, before, after)
            else:
                gone.append(Difference(owner, slot, before, after))
        yield from gone

    def settle(self, done: Iterable[Difference]) -> None:
        """These stand now as they should."""
        for difference in done:
            if difference.after:
                self.standing[difference.slot] = difference.after
            else:
                self.standing.pop(difference.slot, None)
            self.dirty.pop(difference.slot, None)

    def retire_unclaimed(self) -> None:
        """What stands and nobody wants is to go; the node's own only once the node is known."""
        for slot in self.standing:
            if slot not in self._claims and (self._node_known or is_frontend(slot) or slot[1] not in render.OF_NODE):
                self.dirty[slot] = None

    def restart(self, standing: Mapping[bytes, Placement]) -> None:
        """What stands was read (again): everything wanted may differ."""
        self.standing = dict(standing)
        self.dirty.update(dict.fromkeys(self._claims))

    def conflicts(self) -> Iterator[tuple[ObjectKey, bytes, ObjectKey]]:
        """Who waits for which frontend, and who has it."""
        for slot in self._contested:
            holder, *losers = self._claims[slot]
            yield from ((loser[0], slot, holder[0]) for loser in losers)

    def _claim(self, slot: bytes, owner: ObjectKey, placement: Placement | None) -> None:
        rest = [claim for claim in self._claims.get(slot, ()) if claim[0] != owner]
        if placement is not None:
            rest.append((owner, placement))
        rest.sort(key=lambda claim: claim[0])
        if len(rest) > 1 and is_frontend(slot):
            self._contested.add(slot)
        else:
            self._contested.discard(slot)
        if rest:
            self._claims[slot] = tuple(rest)
        else:
            self._claims.pop(slot, None)
        self.dirty[slot] = None
