"""What the Services want of IPVS, by what makes it one thing in the kernel, and which of it may differ. Pure.

Elements of sets stand while an owner needs them. Does not know messages.
"""

from __future__ import annotations

from collections.abc import Iterable

from deltaplane.forwarding import FrontendKind, NodeForwarding, ServiceForwarding
from deltaplane.model import WIDTHS, ObjectKey, family_of
from nodeagent.dataplane.ipvs import render
from nodeagent.dataplane.ipvs.names import ADDRESS, OUTSIDE_MARK, Element
from nodeagent.dataplane.ipvs.objects import BY_MARK, Virtual, VirtualKey
from nodeagent.dataplane.ipvs.render import NodeAddresses
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.dataplane.ipvs.state import State
from nodeagent.dataplane.tracker import Members, Tracker


class Desired:
    """Wanted state and what of it may differ from the kernel's (`state`), in the order it was wanted."""

    def __init__(self, families: Iterable[int], settings: Settings, state: State) -> None:
        self.families = tuple(families)
        self.settings = settings
        self.virtuals: Tracker[VirtualKey, Virtual] = Tracker()
        self.elements: Members[Element] = Members(state.elements)
        self._state = state
        self._services: dict[ObjectKey, ServiceForwarding] = {}
        self._node = NodeForwarding()
        self._neighbours: set[bytes] = set()
        self.node_addresses = NodeAddresses(neighbours=self._neighbours)
        self._abroad: dict[bytes, set[ObjectKey]] = {}  # Services at an address of another Node

    def put(self, service: ServiceForwarding) -> None:
        """Takes what a Service means now. Raises ValueError, changing nothing, for an entry that no set can hold."""
        virtuals = render.virtuals(service, self.node_addresses, self.settings, self.families)
        extras = render.extras(service, self.families)
        self.virtuals.hold(service.key, virtuals)
        self.elements.hold(service.key, (*(e for v in virtuals.values() for e in v.elements), *extras))
        self._note_abroad(self._services.get(service.key), service)
        if service.entries or extras:
            self._services[service.key] = service
        else:
            self._services.pop(service.key, None)

    def remove(self, owner: ObjectKey) -> None:
        self.put(ServiceForwarding(owner))

    def put_node(self, node: NodeForwarding) -> None:
        """Takes the addresses on which node ports answer."""
        self._node = node
        self._move(self.node_addresses.others)

    def put_addresses(self, others: Iterable[bytes]) -> None:
        """Takes the addresses that other links than ours have."""
        self._move(frozenset(others))

    def put_neighbours(self, come: Iterable[bytes], gone: Iterable[bytes]) -> None:
        """Takes the addresses of other Nodes, and those that are none any more."""
        arrived, left = set(come), set(gone)
        self._neighbours |= arrived
        self._neighbours -= left
        moved = {owner for address in left for owner in self._abroad.pop(address, ())}
        taken = {address for address in arrived if Element(family_of(address), ADDRESS, address) in self.elements}
        if taken:  # some Service has one: seldom, so nothing is kept to find it by
            moved |= {owner for owner, service in self._services.items() if taken & _addresses(service)}
        for owner in sorted(moved):
            self.put(self._services[owner])

    def configure(self, settings: Settings) -> None:
        """Takes other settings."""
        self.settings = settings
        for service in list(self._services.values()):
            self.put(service)

    def owners(self) -> list[ObjectKey]:
        return list(self._services)

    def wanted(self, key: VirtualKey) -> Virtual | None:
        claim = self.virtuals.desired.get(key)
        return claim.value if claim is not None else None

    def owner(self, thing: VirtualKey | Element) -> ObjectKey | None:
        """The Service that has an address and port, or one that needs an element."""
        if isinstance(thing, Element):
            return self.elements.owner(thing)
        claim = self.virtuals.desired.get(thing)
        return claim.owner if claim is not None else None

    def forget(self) -> None:
        """The kernel was read again: everything wanted may differ."""
        self.virtuals.forget()
        self.elements.pending.update(dict.fromkeys(self.elements))

    def retire(self) -> None:
        """What the kernel has and no owner wants is to go."""
        state, wanted, pending = self._state, self.virtuals.desired, self.virtuals.pending
        marked = set(state.marks.values())
        strays = (k for k in state.virtuals if (k.port not in marked if k.protocol == BY_MARK else k not in wanted))
        pending.update(dict.fromkeys(strays))
        pending.update(dict.fromkeys(key for key in state.marks if key not in wanted))
        self.elements.pending.update((e, None) for e in self.elements.undesired() if e.set != OUTSIDE_MARK)

    # ------------------------------------------------------------ this node

    def _move(self, others: frozenset[bytes]) -> None:
        """Says again what depends on this node's addresses, where they are others now."""
        before, self.node_addresses = (
            self.node_addresses,
            NodeAddresses(self._node_ports(others), others, self._neighbours),
        )
        moved = before.others ^ others
        if before == self.node_addresses:
            return
        node_ports = before.node_ports != self.node_addresses.node_ports
        for service in list(self._services.values()):
            if any(_depends(entry.frontend, moved, node_ports) for entry in service.entries):
                self.put(service)

    def _node_ports(self, others: frozenset[bytes]) -> dict[int, tuple[bytes, ...]]:
        found = {}
        for family in self.families:
            width = WIDTHS[family]
            given = others if family in self._node.match_all_families else self._node.node_port_addresses
            found[family] = tuple(sorted(a for a in given if len(a) == width and not _is_within(a)))
        return found

    def _note_abroad(self, before: ServiceForwarding | None, now: ServiceForwarding) -> None:
        gone = self._abroad.keys() & _addresses(before) if before is not None and self._abroad else ()
        for address in gone:
            self._abroad[address].discard(now.key)
            if not self._abroad[address]:
                del self._abroad[address]
        for address in self._neighbours.intersection(_addresses(now)):
            self._abroad.setdefault(address, set()).add(now.key)


def _depends(frontend: tuple[int, int, bytes, int, int], moved: frozenset[bytes], node_ports: bool) -> bool:
    kind, _, address, _, _ = frontend
    return node_ports if kind == FrontendKind.NODE_PORT else address in moved


def _addresses(service: ServiceForwarding) -> set[bytes]:
    """All that it is reached at but node ports."""
    return {entry.frontend.address for entry in service.entries if entry.frontend.kind != FrontendKind.NODE_PORT}


def _is_within(address: bytes) -> bool:
    """An address no other machine can reach: loopback, or link-local of IPv6."""
    if len(address) == 4:
        return address[0] == 127
    return address == bytes(15) + b"\x01" or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
