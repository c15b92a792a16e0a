"""Which connection attempts a change makes stale: those that began before their frontend led anywhere.

A SYN that meets no rule of its destination leaves a tracked entry that nobody translated. Every SYN that its client
sends from the same port belongs to that entry and keeps it alive, and translation is decided for new entries only: the
client would try in vain for as long as it tries, whatever the rules say since. So the entry goes once there is
somewhere to go; the next SYN makes a new one. It goes only if nobody answered and nobody translated it: connections
are left alone (J5). The same holds for the INIT of SCTP.

`Attempts` is called by `cleaner`, on the agent's thread. Pure: knows no kernel and no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from deltaplane.forwarding import Entry, ServiceForwarding, Target
from deltaplane.frontends import Slot, parts, slot_of
from deltaplane.model import ObjectKey, Protocol
from nodeagent.conntrack.intent import Place

if TYPE_CHECKING:
    from nodeagent.conntrack.query import Flow

_UDP = int(Protocol.UDP)  # a flow of which `intent` looks after, answered or not


class Attempt(NamedTuple):
    """Attempts to connect to `place`, of a frontend (`slot`) that leads somewhere now."""

    key: ObjectKey
    slot: Slot
    place: Place

    def takes(self, flow: Flow) -> bool:
        """Whether it still waits for an answer from the very place it was sent to."""
        return flow.waiting and flow.source == Target(self.place.address, self.place.port)


class Attempts:
    """Which frontends lead somewhere, and which of them are new to it: wanted, then committed, then taken."""

    def __init__(self) -> None:
        self._addresses: frozenset[bytes] = frozenset()
        self._open: dict[ObjectKey, bytes] = {}  # packed: 10,000 Services' frontends as values would take 10 MB
        self._wanted: dict[Attempt, None] = {}
        self._committed: dict[Attempt, None] = {}

    def want(
        self,
        services: Sequence[ServiceForwarding],
        addresses: Collection[bytes] | None = None,
        *,
        complete: bool = False,
    ) -> None:
        """Takes in what is about to be committed. `addresses`: where node ports answer; None: as before."""
        # What stays is made before what goes after the clean-up, which would keep the memory between them.
        before = [self._update(service.key, _packed(service.entries)) for service in services]
        if complete:
            for key in self._open.keys() - {service.key for service in services}:
                del self._open[key]
        for service, packed in zip(services, before, strict=True):
            self._opened(service.key, packed)
        if addresses is not None:
            self._move(frozenset(addresses))

    def commit(self, failed: Container[ObjectKey] = ()) -> bool:
        """The kernel has what was wanted, except of the `failed`; whether anything is to be cleaned."""
        for item in [item for item in self._wanted if item.key not in failed]:
            del self._wanted[item]
            self._committed[item] = None
        return bool(self._committed)

    def again(self, items: Iterable[Attempt]) -> None:
        """These could not be done, and are due again."""
        self._committed.update(dict.fromkeys(items))

    def take(self) -> list[Attempt]:
        """What is to be cleaned now, as things stand now: what leads nowhere any more is none of ours."""
        items, self._committed = self._committed, {}
        known = {key: frozenset(_slots(self._open.get(key, b""))) for key in {item.key for item in items}}
        return [item for item in items if item.slot in known[item.key] and self._is_here(item)]

    def _is_here(self, item: Attempt) -> bool:
        return bool(parts(item.slot)[3]) or item.place.address in self._addresses

    # ------------------------------------------------------------ changes

    def _update(self, key: ObjectKey, after: bytes) -> bytes:
        """What was open of the Service before."""
        before = self._open.pop(key, b"")
        if after:
            self._open[key] = after
        return before

    def _opened(self, key: ObjectKey, before: bytes) -> None:
        after = self._open.get(key, b"")
        if after == before:
            return
        known = frozenset(_slots(before))
        for slot in _slots(after):
            if slot not in known:
                self._note(key, slot, self._addresses)

    def _move(self, addresses: frozenset[bytes]) -> None:
        """Node ports open on new addresses; a walk over the Services, for a rare event."""
        opened = addresses - self._addresses
        self._addresses = addresses
        for key, packed in self._open.items() if opened else ():
            for slot in _slots(packed):
                if not parts(slot)[3]:
                    self._note(key, slot, opened)

    def _note(self, key: ObjectKey, slot: Slot, addresses: Iterable[bytes]) -> None:
        family, protocol, port, own = parts(slot)
        for address in [own] if own else sorted(addresses):
            if len(address) == (4 if family == 4 else 16):
                self._wanted[Attempt(key, slot, Place(address, port, protocol))] = None


def _packed(entries: Iterable[Entry]) -> bytes:
    """The frontends that lead somewhere, from inside or outside the cluster, those of UDP left out: slots by length."""
    found = [slot_of(e.frontend) for e in entries if e.frontend.protocol != _UDP and (e.targets or e.local_targets)]
    return b"".join(bytes((len(slot),)) + slot for slot in found)


def _slots(packed: bytes) -> Iterator[Slot]:
    start = 0
    while start < len(packed):
        end = start + 1 + packed[start]
        yield packed[start + 1 : end]
        start = end
