"""Whose address and port it is where several Services ask for the same: decided here, before any driver.

A ClusterIP is its Service's: nobody else has it as an external address, on whatever port. Of two that ask for one
external address and port, or one node port, the older Service has it (metadata.creationTimestamp), then the one whose
name sorts first; so every node decides alike, whatever came first. Pure. Called by `nodeagent.dataplane.resolver`,
which resolves again whoever gets or loses something by another's change, and by `controlplane.contested`, which tells
the losers' owners. kube-proxy leaves it to the order of its maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from math import inf
from struct import Struct as Layout
from typing import NamedTuple

from msgspec.structs import replace

from deltaplane.forwarding import Frontend, FrontendKind, ServiceForwarding
from deltaplane.model import ObjectKey, Protocol, Service
from deltaplane.resolve import frontends

_PROTOCOLS = {int(protocol): protocol.name for protocol in Protocol}

Slot = bytes  # what can be had once: family, protocol, port, and the address, which a node port has none of
_HEAD = Layout(">BBH")
_CLUSTER_IP = FrontendKind.CLUSTER_IP


class Lost(NamedTuple):
    """`owner` does without `slot`, which `holder` has: another Service, or what nobody may have, in words."""

    owner: ObjectKey
    slot: Slot
    holder: ObjectKey | str

    def __str__(self) -> str:
        if isinstance(self.holder, str):
            return f"{self.owner}: {_shown(self.slot)} is {self.holder}: choose another address or port"
        return f"{self.owner}: {_shown(self.slot)} belongs to {self.holder}: change one of them"


class _Wanted(NamedTuple):
    """What one Service asks for, and since when it is there; a slot that it asks for both ways is inside."""

    age: float  # Unix seconds
    inside: tuple[Slot, ...] = ()  # as its ClusterIP's
    outside: tuple[Slot, ...] = ()
    service: Service | None = None  # what says so


_NOTHING = _Wanted(inf)


class Frontends:
    """All claims of all Services; a Service with one ClusterIP and port takes some 250 bytes."""

    def __init__(self) -> None:
        self._claims: dict[Slot, ObjectKey | list[ObjectKey]] = {}  # the holder first, where there are several
        self._wanted: dict[ObjectKey, _Wanted] = {}
        self._inside: dict[bytes, ObjectKey | list[ObjectKey]] = {}  # whose ClusterIP an address is
        self._outside: dict[bytes, ObjectKey | list[ObjectKey]] = {}  # who asks for it as an external address
        self._losses: dict[ObjectKey, tuple[Lost, ...]] = {}
        self._reserved: dict[str, tuple[frozenset[Slot], bool]] = {}

    def reserve(self, what: str, slots: Iterable[Slot], *, clusterips: bool = True) -> set[ObjectKey]:
        """Nobody has these; `what` they are, in words, was something else before. Gives those whom it touches.

        Without `clusterips` a ClusterIP among them stays its Service's.
        """
        before, after = self._reserved.get(what, (frozenset(),))[0], frozenset(slots)
        self._reserved[what] = after, clusterips
        return {owner for slot in before ^ after for owner in _listed(self._claims, slot)}

    def forget(self) -> None:
        """No Service asks for anything: a whole state follows. What is reserved stays so."""
        self._claims, self._wanted, self._inside, self._outside, self._losses = {}, {}, {}, {}, {}

    def losses(self) -> Iterator[Lost]:
        """What is asked for in vain, as of the last `grant` of each Service."""
        for lost in self._losses.values():
            yield from lost

    def put(self, key: ObjectKey, service: Service | None) -> set[ObjectKey]:
        """Takes what a Service asks for now, nothing where it is gone; gives others whose right changes.

        A Service that is the very object of the last time costs one look.
        """
        before = self._wanted.get(key, _NOTHING)
        if before.service is service:
            return set()
        after = _NOTHING if service is None else _wanted(service)
        if before is _NOTHING and not after.inside and not after.outside:
            return set()
        self._wanted[key] = after
        if before[:3] == after[:3]:
            return set()
        touched: set[ObjectKey] = set()
        gone = {*before.inside, *before.outside}.difference(after.inside, after.outside)
        for slot in (*gone, *after.inside, *after.outside):
            touched |= self._claim(slot, key, wanted=slot not in gone)
        touched |= self._move(self._inside, key, before.inside, after.inside)
        self._move(self._outside, key, before.outside, after.outside)
        if not after.inside and not after.outside:
            del self._wanted[key]
        return touched - {key}

    def grant(self, service: ServiceForwarding) -> ServiceForwarding:
        """The Service without what is another's."""
        lost = self.lost(service.key)
        if not lost:
            self._losses.pop(service.key, None)
            return service
        self._losses[service.key] = lost
        slots = {each.slot for each in lost}
        return replace(service, entries=tuple(e for e in service.entries if slot_of(e.frontend) not in slots))

    def lost(self, key: ObjectKey) -> tuple[Lost, ...]:
        """What a Service asks for in vain, sorted."""
        wanted = self._wanted.get(key, _NOTHING)
        slots = sorted(wanted.inside + wanted.outside)
        return tuple(Lost(key, slot, holder) for slot in slots if (holder := self._holder(key, slot)))

    def _holder(self, owner: ObjectKey, slot: Slot) -> ObjectKey | str | None:
        """Who has the slot, if it is not this one of its claimants."""
        for what, (slots, clusterips) in self._reserved.items():
            if slot in slots and (clusterips or slot not in self._wanted[owner].inside):
                return what
        first = _listed(self._claims, slot)[0]
        if first != owner:
            return first
        inside = _listed(self._inside, slot[_HEAD.size :])
        return inside[0] if inside and owner not in inside else None

    def _claim(self, slot: Slot, owner: ObjectKey, *, wanted: bool) -> set[ObjectKey]:
        """Puts one claim in or takes it out. Where another has the slot then, gives all who ask for it or did."""
        old = _listed(self._claims, slot)
        new = [each for each in old if each != owner] + [owner] * wanted
        if len(new) > 1:
            new.sort(key=lambda each: (slot not in self._wanted[each].inside, self._wanted[each].age, each))
        _put(self._claims, slot, new)
        return set() if old[:1] == new[:1] else {*old, *new}

    def _move(
        self,
        table: dict[bytes, ObjectKey | list[ObjectKey]],
        owner: ObjectKey,
        before: tuple[Slot, ...],
        after: tuple[Slot, ...],
    ) -> set[ObjectKey]:
        """Follows which addresses a Service has or asks for. Gives those that ask for one of them from outside."""
        old, new = ({slot[_HEAD.size :] for slot in slots} - {b""} for slots in (before, after))
        for address in old ^ new:
            others = [each for each in _listed(table, address) if each != owner]
            _put(table, address, sorted([*others, owner] if address in new else others))
        return {other for address in old ^ new for other in _listed(self._outside, address)}


def slot_of(frontend: Frontend) -> Slot:
    """The one slot that a frontend takes."""
    return slot(frontend.family, frontend.protocol, frontend.port, frontend.address)


def slot(family: int, protocol: int, port: int, address: bytes = b"") -> Slot:
    """An address and port, or a node port."""
    return _HEAD.pack(family, protocol, port) + address


def parts(slot: Slot) -> tuple[int, int, int, bytes]:
    """Family, protocol, port and address, which a node port has none of."""
    return *_HEAD.unpack_from(slot), slot[_HEAD.size :]


def _wanted(service: Service) -> _Wanted:
    inside: list[Slot] = []
    outside: list[Slot] = []
    for frontend in frontends(service):
        (inside if frontend.kind is _CLUSTER_IP else outside).append(slot_of(frontend))
    asked = tuple(dict.fromkeys(slot for slot in outside if slot not in inside)) if outside else ()
    return _Wanted(service.created if service.created > 0 else inf, tuple(inside), asked, service)


def _listed(table: dict[bytes, ObjectKey | list[ObjectKey]], index: bytes) -> list[ObjectKey]:
    found = table.get(index)
    return [] if found is None else found if isinstance(found, list) else [found]


def _put(table: dict[bytes, ObjectKey | list[ObjectKey]], index: bytes, owners: list[ObjectKey]) -> None:
    """Most have one owner, who stands for the list."""
    if owners:
        table[index] = owners[0] if len(owners) == 1 else owners
    else:
        table.pop(index, None)


def _shown(slot: Slot) -> str:
    _, number, port, packed = parts(slot)
    protocol = _PROTOCOLS.get(number, str(number))
    if not packed:
        return f"node port {protocol}/{port}"
    address = ip_address(packed)
    return f"{protocol} {address}:{port}" if address.version == 4 else f"{protocol} [{address}]:{port}"
