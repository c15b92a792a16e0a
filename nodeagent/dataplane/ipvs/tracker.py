"""What the Services want of IPVS, by what makes it one thing in the kernel, and which of it may differ. Pure.

Two Services may want one address and port: the one whose namespace and name sort first has it, the other is in conflict
until it goes. Elements of sets stand while somebody needs them. Does not know messages or what the kernel holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from deltaplane.forwarding import FrontendKind, NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.ipvs import render
from nodeagent.dataplane.ipvs.names import ADDRESS, Element
from nodeagent.dataplane.ipvs.objects import Virtual, VirtualKey
from nodeagent.dataplane.ipvs.render import Here
from nodeagent.dataplane.ipvs.settings import Settings


class Claim(NamedTuple):
    """A Service's wish for an address and port."""

    owner: ObjectKey
    virtual: Virtual


class Holding(NamedTuple):
    """What one Service has said, and what it came to."""

    service: ServiceForwarding
    keys: tuple[VirtualKey, ...]
    extras: tuple[Element, ...]


class Tracker:
    """Wanted state and what of it may differ from the kernel's, in the order it was wanted."""

    def __init__(self, families: Iterable[int], settings: Settings) -> None:
        self.families = tuple(families)
        self.settings = settings
        self.dirty: dict[VirtualKey, None] = {}
        self.dirty_elements: dict[Element, None] = {}
        self.conflicts: dict[VirtualKey, tuple[ObjectKey, ...]] = {}  # who waits
        self._claims: dict[VirtualKey, tuple[Claim, ...]] = {}  # the holder first
        self._needs: dict[Element, int] = {}
        self._holdings: dict[ObjectKey, Holding] = {}
        self._node = NodeForwarding()
        self._neighbours: set[bytes] = set()
        self.here = Here(neighbours=self._neighbours)
        self._abroad: dict[bytes, set[ObjectKey]] = {}  # Services at an address of another Node

    def put(self, service: ServiceForwarding) -> None:
        """Takes what a Service means now. Raises ValueError, changing nothing, for an entry that no set can hold."""
        virtuals = render.virtuals(service, self.here, self.settings, self.families)
        extras = render.extras(service, self.families)
        self._hold(service, virtuals, extras)

    def remove(self, owner: ObjectKey) -> None:
        self._hold(ServiceForwarding(owner), {}, ())

    def put_node(self, node: NodeForwarding) -> None:
        """Takes the addresses on which node ports answer."""
        self._node = node
        self._move(self.here.others)

    def put_addresses(self, others: Iterable[bytes]) -> None:
        """Takes the addresses that other links than ours have."""
        self._move(frozenset(others))

    def put_neighbours(self, come: Iterable[bytes], gone: Iterable[bytes]) -> None:
        """Takes the addresses of other Nodes, and those that are none any more."""
        arrived, left = set(come), set(gone)
        self._neighbours |= arrived
        self._neighbours -= left
        moved = {owner for address in left for owner in self._abroad.pop(address, ())}
        taken = {address for address in arrived if Element(_family(address), ADDRESS, address) in self._needs}
        if taken:  # some Service has one: seldom, so nothing is kept to find it by
            moved |= {owner for owner, held in self._holdings.items() if taken & _addresses(held.service)}
        for owner in sorted(moved):
            self.put(self._holdings[owner].service)

    def configure(self, settings: Settings) -> None:
        """Takes other settings."""
        self.settings = settings
        for held in list(self._holdings.values()):
            self.put(held.service)

    def owners(self) -> list[ObjectKey]:
        return list(self._holdings)

    def wanted(self, key: VirtualKey) -> Virtual | None:
        claims = self._claims.get(key)
        return claims[0].virtual if claims else None

    def owner(self, key: VirtualKey) -> ObjectKey | None:
        """The Service that has an address and port."""
        claims = self._claims.get(key)
        return claims[0].owner if claims else None

    def needs(self, element: Element) -> bool:
        return element in self._needs

    def needed(self) -> Iterator[Element]:
        return iter(self._needs)

    def keys(self) -> Iterator[VirtualKey]:
        return iter(self._claims)

    def needer(self, element: Element) -> ObjectKey | None:
        """One that needs an element; looked for among all, so for failures only."""
        for owner, held in self._holdings.items():
            if element in held.extras or any(element in self._elements(key, owner) for key in held.keys):
                return owner
        return None

    def _elements(self, key: VirtualKey, owner: ObjectKey) -> tuple[Element, ...]:
        claims = self._claims[key]
        return claims[0].virtual.elements if claims[0].owner == owner else ()

    # ------------------------------------------------------------ this node

    def _move(self, others: frozenset[bytes]) -> None:
        """Says again what depends on this node's addresses, where they are others now."""
        before, self.here = self.here, Here(self._node_ports(others), others, self._neighbours)
        moved = before.others ^ others
        if before == self.here:
            return
        node_ports = before.node_ports != self.here.node_ports
        for held in list(self._holdings.values()):
            if any(_depends(entry.frontend, moved, node_ports) for entry in held.service.entries):
                self.put(held.service)

    def _node_ports(self, others: frozenset[bytes]) -> dict[int, tuple[bytes, ...]]:
        found = {}
        for family in self.families:
            width = 4 if family == 4 else 16
            given = others if family in self._node.match_all_families else self._node.node_port_addresses
            found[family] = tuple(sorted(a for a in given if len(a) == width and not _is_within(a)))
        return found

    # ------------------------------------------------------------ claims

    def _hold(
        self, service: ServiceForwarding, virtuals: Mapping[VirtualKey, Virtual], extras: tuple[Element, ...]
    ) -> None:
        owner = service.key
        before = self._holdings.get(owner)
        for key in before.keys if before is not None else ():
            if key not in virtuals:
                self._claim(key, owner, None)
        for key, virtual in virtuals.items():
            self._claim(key, owner, virtual)
        self._need(before.extras if before is not None else (), extras)
        self._note_abroad(owner, before.service if before is not None else None, service)
        if virtuals or extras or service.entries:
            self._holdings[owner] = Holding(service, tuple(virtuals), extras)
        else:
            self._holdings.pop(owner, None)

    def _note_abroad(self, owner: ObjectKey, before: ServiceForwarding | None, now: ServiceForwarding) -> None:
        gone = self._abroad.keys() & _addresses(before) if before is not None and self._abroad else ()
        for address in gone:
            self._abroad[address].discard(owner)
            if not self._abroad[address]:
                del self._abroad[address]
        for address in self._neighbours.intersection(_addresses(now)):
            self._abroad.setdefault(address, set()).add(owner)

    def _claim(self, key: VirtualKey, owner: ObjectKey, virtual: Virtual | None) -> None:
        claims = self._claims.get(key, ())
        before = claims[0].virtual if claims else None
        rest = [claim for claim in claims if claim.owner != owner]
        if virtual is not None:
            rest.append(Claim(owner, virtual))
            rest.sort(key=lambda claim: claim.owner)
        self._conflict(key, rest)
        if rest:
            self._claims[key] = tuple(rest)
        else:
            self._claims.pop(key, None)
        after = rest[0].virtual if rest else None
        if before != after:
            self.dirty[key] = None
            self._need(before.elements if before else (), after.elements if after else ())

    def _conflict(self, key: VirtualKey, claims: list[Claim]) -> None:
        if len(claims) > 1:
            self.conflicts[key] = tuple(claim.owner for claim in claims[1:])
        else:
            self.conflicts.pop(key, None)

    def _need(self, before: tuple[Element, ...], after: tuple[Element, ...]) -> None:
        if before == after:
            return
        for element in after:
            count = self._needs.get(element, 0)
            self._needs[element] = count + 1
            if not count:
                self.dirty_elements[element] = None
        for element in before:
            self._needs[element] -= 1
            if not self._needs[element]:
                del self._needs[element]
                self.dirty_elements[element] = None


def _depends(frontend: tuple[int, int, bytes, int, int], moved: frozenset[bytes], node_ports: bool) -> bool:
    kind, _, address, _, _ = frontend
    return node_ports if kind == FrontendKind.NODE_PORT else address in moved


def _addresses(service: ServiceForwarding) -> set[bytes]:
    """All that it is reached at but node ports."""
    return {entry.frontend.address for entry in service.entries if entry.frontend.kind != FrontendKind.NODE_PORT}


def _family(address: bytes) -> int:
    return 4 if len(address) == 4 else 6


def _is_within(address: bytes) -> bool:
    """An address no other machine can reach: loopback, or link-local of IPv6."""
    if len(address) == 4:
        return address[0] == 127
    return address == bytes(15) + b"\x01" or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
