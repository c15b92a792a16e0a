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

from deltaplane.forwarding import Entry, Frontend, ServiceForwarding, Target
from deltaplane.model import ObjectKey, Protocol
from nodeagent.conntrack.intent import Place

if TYPE_CHECKING:
    from nodeagent.conntrack.query import Flow

_UDP = int(Protocol.UDP)  # a flow of which `intent` looks after, answered or not


class Attempt(NamedTuple):
    """Attempts to connect to `place`, of a frontend that leads somewhere now."""

    key: ObjectKey
    frontend: Frontend
    place: Place

    def takes(self, flow: Flow) -> bool:
        """Whether it still waits for an answer from the very place it was sent to."""
        return flow.waiting and flow.source == Target(self.place.address, self.place.port)


class Attempts:
    """Which frontends lead somewhere, and which of them are new to it: wanted, then committed, then taken."""

    def __init__(self) -> None:
        self._addresses: frozenset[bytes] = frozenset()
        self._open: dict[ObjectKey, tuple[Frontend, ...]] = {}
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
        for service in services:
            self._update(service.key, tuple(_open(service.entries)))
        if complete:
            for key in self._open.keys() - {service.key for service in services}:
                del self._open[key]
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
        known = {key: frozenset(self._open.get(key, ())) for key in {item.key for item in items}}
        return [item for item in items if item.frontend in known[item.key] and self._is_here(item)]

    def _is_here(self, item: Attempt) -> bool:
        return bool(item.frontend.address) or item.place.address in self._addresses

    # ------------------------------------------------------------ changes

    def _update(self, key: ObjectKey, after: tuple[Frontend, ...]) -> None:
        before = frozenset(self._open.pop(key, ()))
        if after:
            self._open[key] = after
        for frontend in after:
            if frontend not in before:
                self._note(key, frontend, self._addresses)

    def _move(self, addresses: frozenset[bytes]) -> None:
        """Node ports open on new addresses; a walk over the Services, for a rare event."""
        opened = addresses - self._addresses
        self._addresses = addresses
        for key, frontends in self._open.items() if opened else ():
            for frontend in frontends:
                if not frontend.address:
                    self._note(key, frontend, opened)

    def _note(self, key: ObjectKey, frontend: Frontend, addresses: Iterable[bytes]) -> None:
        for address in [frontend.address] if frontend.address else sorted(addresses):
            if len(address) == (4 if frontend.family == 4 else 16):
                place = Place(address, frontend.port, frontend.protocol)
                self._wanted[Attempt(key, frontend, place)] = None


def _open(entries: Iterable[Entry]) -> Iterator[Frontend]:
    """The frontends of one Service that lead somewhere, from inside or outside the cluster; those of UDP left out."""
    for entry in entries:
        if entry.frontend.protocol != _UDP and (entry.targets or entry.local_targets):
            yield entry.frontend
