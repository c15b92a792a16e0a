"""Which connection attempts a change makes stale: those that began before their frontend had an endpoint.

A SYN that matches no rule leaves a tracked entry without translation. Every further SYN of its client from the same
port belongs to that entry and keeps it alive, and the kernel decides on translation for new entries only: the client's
attempts would fail for ever, also after the Service has endpoints. So the entry is deleted once the frontend has
endpoints; the next SYN makes a new one. Only an entry without answer and translation is deleted: connections stay (J5).
The same holds for SCTP's INIT.

`Attempts` is called by `cleaner`, on the agent's thread. Pure: knows no kernel and no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from deltaplane.forwarding import Entry, ServiceForwarding, Target
from deltaplane.frontends import Slot, parts, slot_of
from deltaplane.model import WIDTHS, ObjectKey, Protocol
from nodeagent.conntrack.places import Place

if TYPE_CHECKING:
    from nodeagent.conntrack.query import Flow

PER_ROUND = 1000  # Services whose attempts are looked for at once
_UDP = int(Protocol.UDP)  # a flow of which `intent` looks after, answered or not


class Attempt(NamedTuple):
    """Attempts to connect to `place`, of a frontend (`slot`) that leads somewhere now."""

    key: ObjectKey
    slot: Slot
    place: Place

    def takes(self, flow: Flow) -> bool:
        """Whether the flow still waits for an answer from the place that it was sent to."""
        return flow.waiting and flow.source == Target(self.place.address, self.place.port)


class Attempts:
    """Which frontends lead somewhere, and which of them are new to it: wanted, then committed, then taken.

    For each Service that changed it is kept what was open before, packed: that costs little at a start, when all did.
    """

    def __init__(self) -> None:
        self._addresses: frozenset[bytes] = frozenset()
        self._open: dict[ObjectKey, bytes] = {}
        self._wanted: dict[ObjectKey, bytes] = {}
        self._committed: dict[ObjectKey, bytes] = {}
        self._moving: dict[Attempt, None] = {}  # node ports on addresses that are new: wanted
        self._moved: dict[Attempt, None] = {}  # and committed

    def want(
        self,
        services: Sequence[ServiceForwarding],
        addresses: Collection[bytes] | None = None,
        *,
        complete: bool = False,
        names: Collection[ObjectKey] | None = None,
    ) -> None:
        """Takes in what is about to be committed. `addresses`: where node ports answer; None: as before.

        `complete`: these, or those of `names`, are all Services there are.
        """
        for service in services:
            self._update(service.key, _packed(service.entries))
        if complete:
            for key in self._open.keys() - (names or {service.key for service in services}):
                del self._open[key]
        if addresses is not None:
            self._move(frozenset(addresses))

    def commit(self, failed: Container[ObjectKey] = ()) -> bool:
        """The kernel has what was wanted, except of the `failed`; whether anything is to be cleaned."""
        for key in [key for key in self._wanted if key not in failed]:
            _note(self._committed, key, self._wanted.pop(key))
        for item in [item for item in self._moving if item.key not in failed]:
            self._moved[item] = self._moving.pop(item)
        return bool(self._committed or self._moved)

    @property
    def due(self) -> bool:
        """Whether another `take` has something to give."""
        return bool(self._committed)

    def again(self, items: Iterable[Attempt]) -> None:
        """These could not be done, and are due again."""
        missed: dict[ObjectKey, set[Slot]] = {}
        for item in items:
            missed.setdefault(item.key, set()).add(item.slot)
        for key, slots in missed.items():
            _note(self._committed, key, _pack(slot for slot in _slots(self._open.get(key, b"")) if slot not in slots))

    def take(self) -> list[Attempt]:
        """What is to be cleaned now, of some Services: call it again until it returns nothing."""
        moved, self._moved = self._moved, {}
        keys = list(self._committed)[:PER_ROUND]
        found = dict.fromkeys(item for key in keys for item in self._new(key, self._committed.pop(key)))
        return [*found, *(item for item in moved if item not in found and self._stands(item))]

    def _stands(self, item: Attempt) -> bool:
        return item.place.address in self._addresses and item.slot in _slots(self._open.get(item.key, b""))

    def _new(self, key: ObjectKey, packed: bytes) -> Iterator[Attempt]:
        before = frozenset(_slots(packed))
        for slot in _slots(self._open.get(key, b"")):
            if slot not in before:
                family, protocol, port, own = parts(slot)
                for address in [own] if own else sorted(self._addresses):
                    if len(address) == WIDTHS[family]:
                        yield Attempt(key, slot, Place(address, port, protocol))

    # ------------------------------------------------------------ changes

    def _update(self, key: ObjectKey, after: bytes) -> None:
        before = self._open.pop(key, b"")
        if after:
            self._open[key] = after
        if after != before:
            _note(self._wanted, key, before)

    def _move(self, addresses: frozenset[bytes]) -> None:
        """Node ports open on new addresses; a walk over the Services, for a rare event."""
        opened = addresses - self._addresses
        self._addresses = addresses
        for key in self._open if opened else ():
            if self._wanted.get(key) == b"":
                continue  # all of it is looked at
            for item in self._new(key, b""):
                if item.place.address in opened and not parts(item.slot)[3]:
                    self._moving[item] = None


def _note(table: dict[ObjectKey, bytes], key: ObjectKey, before: bytes) -> None:
    """What was open before counts only where it was open before every change that is noted."""
    known = table.get(key)
    if known is not None and known != before:
        then = frozenset(_slots(known))
        before = _pack(slot for slot in _slots(before) if slot in then)
    table[key] = before


def _packed(entries: Iterable[Entry]) -> bytes:
    """The frontends that lead somewhere, from inside or outside the cluster, those of UDP left out: slots by length."""
    return _pack(slot_of(e.frontend) for e in entries if e.frontend.protocol != _UDP and (e.targets or e.local_targets))


def _pack(slots: Iterable[Slot]) -> bytes:
    return b"".join(bytes((len(slot),)) + slot for slot in slots)


def _slots(packed: bytes) -> Iterator[Slot]:
    start = 0
    while start < len(packed):
        end = start + 1 + packed[start]
        yield packed[start + 1 : end]
        start = end
