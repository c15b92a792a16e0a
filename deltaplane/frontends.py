"""Whose address and port it is where several Services ask for the same: decided here, before any driver.

A ClusterIP is its Service's: nobody else has it as an external address, on whatever port. Of two that ask for one
external address and port, or one node port, the older Service has it (metadata.creationTimestamp), then the one whose
name sorts first; so every node decides alike, whatever came first. Pure. Called by `nodeagent.dataplane.resolver`,
which resolves again whoever gets or loses something by another's change, and by `controlplane.contested`, which tells
the losers' owners. kube-proxy leaves it to the order of its maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
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
_Asked = tuple[tuple[Slot, ...], tuple[Slot, ...]]
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


_NOBODY: frozenset[ObjectKey] = frozenset()


class Frontends:
    """All claims of all Services; a Service with one ClusterIP and port takes some 150 bytes."""

    def __init__(self) -> None:
        self._claims: dict[Slot, ObjectKey | list[ObjectKey]] = {}  # the holder first, where there are several
        self._services: dict[ObjectKey, Service] = {}  # as they asked
        self._inside: dict[bytes, ObjectKey | list[ObjectKey]] = {}  # whose ClusterIP an address is
        self._outside: dict[bytes, ObjectKey | list[ObjectKey]] = {}  # who asks for it as an external address
        self._contested: set[ObjectKey] = set()  # nobody else can have lost anything
        self._losses: dict[ObjectKey, tuple[Lost, ...]] = {}
        self._reserved: dict[str, tuple[frozenset[Slot], bool]] = {}

    def reserve(self, what: str, slots: Iterable[Slot], *, clusterips: bool = True) -> set[ObjectKey]:
        """Nobody has these; `what` they are, in words, was something else before. Gives those whom it touches.

        Without `clusterips` a ClusterIP among them stays its Service's.
        """
        before, after = self._reserved.get(what, (frozenset(),))[0], frozenset(slots)
        self._reserved[what] = after, clusterips
        touched = {owner for slot in before ^ after for owner in _listed(self._claims, slot)}
        self._contested |= touched
        return touched

    def forget(self) -> None:
        """No Service asks for anything: a whole state follows. What is reserved stays so."""
        self._claims, self._services, self._inside, self._outside, self._losses = {}, {}, {}, {}, {}
        self._contested = set()

    def losses(self) -> Iterator[Lost]:
        """What is asked for in vain, as of the last `grant` of each Service."""
        for lost in self._losses.values():
            yield from lost

    def put(self, key: ObjectKey, service: Service | None) -> AbstractSet[ObjectKey]:
        """Takes what a Service asks for now, nothing where it is gone; gives others whose right changes.

        A Service that is the very object of the last time costs one look.
        """
        before = self._services.get(key)
        if before is service:
            return _NOBODY
        old, new = _asks(before), _asks(service)
        if service is None:
            del self._services[key]
        else:
            self._services[key] = service
        if before is None and self._takes_free(key, *new):
            return _NOBODY
        if before is not None and service is not None and old == new and before.created == service.created:
            return _NOBODY
        touched = self._change(key, old, new)
        self._contested |= touched
        self._contested.add(key)
        return touched - {key}

    def _takes_free(self, key: ObjectKey, inside: tuple[Slot, ...], outside: tuple[Slot, ...]) -> bool:
        """Claims what a new Service asks for, as long as nobody else does: so it is for nearly all of them."""
        claims = self._claims
        for slot in (*inside, *outside) if outside else inside:
            if claims.setdefault(slot, key) is not key:
                return False
        for address in _addresses(inside):
            if address in self._outside or self._inside.setdefault(address, key) is not key:
                return False
        for address in _addresses(outside):
            if self._outside.setdefault(address, key) is not key or self._inside.get(address, key) is not key:
                return False
        return all(slots.isdisjoint((*inside, *outside)) for slots, _ in self._reserved.values())

    def _change(self, key: ObjectKey, old: _Asked, new: _Asked) -> set[ObjectKey]:
        touched: set[ObjectKey] = set()
        gone = {*old[0], *old[1]}.difference(*new)
        for slot in (*gone, *new[0], *new[1]):
            touched |= self._claim(slot, key, wanted=slot not in gone)
        touched |= self._move(self._inside, key, old[0], new[0])
        self._move(self._outside, key, old[1], new[1])
        return touched

    def grant(self, service: ServiceForwarding) -> ServiceForwarding:
        """The Service without what is another's: the very object where nothing is."""
        key = service.key
        if key not in self._contested:
            return service
        lost = self.lost(key)
        if not lost:
            self._contested.discard(key)
            self._losses.pop(key, None)
            return service
        self._losses[key] = lost
        slots = {each.slot for each in lost}
        return replace(service, entries=tuple(e for e in service.entries if slot_of(e.frontend) not in slots))

    def without_lost(self, service: ServiceForwarding) -> ServiceForwarding:
        """As `grant`, for one who only looks: nothing is remembered."""
        slots = {each.slot for each in self.lost(service.key)} if service.key in self._contested else None
        if not slots:
            return service
        return replace(service, entries=tuple(e for e in service.entries if slot_of(e.frontend) not in slots))

    def holder(self, slot: Slot) -> ObjectKey | None:
        """The Service that has it, or the first of those that ask for it in vain; None: nobody asks."""
        return next(iter(_listed(self._claims, slot)), None)

    def is_cluster_ip(self, address: bytes) -> bool:
        """Whether it is a Service's ClusterIP."""
        return address in self._inside

    def at(self, address: bytes) -> list[ObjectKey]:
        """The Services that ask for the address, on whatever port."""
        return list(dict.fromkeys((*_listed(self._inside, address), *_listed(self._outside, address))))

    def lost(self, key: ObjectKey) -> tuple[Lost, ...]:
        """What a Service asks for in vain, sorted."""
        inside, outside = _asks(self._services.get(key))
        slots = sorted(inside + outside)
        return tuple(Lost(key, slot, holder) for slot in slots if (holder := self._holder(key, slot)))

    def _holder(self, owner: ObjectKey, slot: Slot) -> ObjectKey | str | None:
        """Who has the slot, if it is not this one of its claimants."""
        for what, (slots, clusterips) in self._reserved.items():
            if slot in slots and (clusterips or not self._is_inside(owner, slot)):
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
            new.sort(key=lambda each: self._rank(each, slot))
        _put(self._claims, slot, new)
        return set() if old[:1] == new[:1] else {*old, *new}

    def _rank(self, claimant: ObjectKey, slot: Slot) -> tuple[bool, float, ObjectKey]:
        created = self._services[claimant].created
        return not self._is_inside(claimant, slot), created if created > 0 else inf, claimant

    def _is_inside(self, claimant: ObjectKey, slot: Slot) -> bool:
        """Whether it asks for this slot as its ClusterIP's, whether or not as an external address too."""
        return slot[_HEAD.size :] in self._services[claimant].cluster_ips

    def _move(
        self,
        table: dict[bytes, ObjectKey | list[ObjectKey]],
        owner: ObjectKey,
        before: tuple[Slot, ...],
        after: tuple[Slot, ...],
    ) -> set[ObjectKey]:
        """Follows which addresses a Service has or asks for. Gives those that ask for one of them from outside."""
        old, new = _addresses(before), _addresses(after)
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


def _asks(service: Service | None) -> _Asked:
    """What a Service asks for: as its ClusterIPs', and otherwise; each slot once, and in the first where in both."""
    if service is None:
        return (), ()
    inside: list[Slot] = []
    outside: list[Slot] = []
    for kind, family, address, protocol, port in frontends(service):
        (inside if kind is _CLUSTER_IP else outside).append(slot(family, protocol, port, address))
    return tuple(inside), tuple(dict.fromkeys(each for each in outside if each not in inside)) if outside else ()


def _addresses(slots: Iterable[Slot]) -> set[bytes]:
    """Node ports have none."""
    return {slot[_HEAD.size :] for slot in slots if len(slot) > _HEAD.size}


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
