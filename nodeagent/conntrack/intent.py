"""Which tracked UDP flows a change makes stale. The cost follows the size of the change.

`Intents` keeps, of every Service with UDP ports, which endpoints its frontends' flows may stay with, and notes what
each change takes away. Called by `cleaner`, on the event loop's thread. Pure: knows no kernel and no clock. Row ids are
those of docs/behaviour.md; after kube-proxy 1.36 and its later fixes (Services without endpoints, deleted Services).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from deltaplane.forwarding import ServiceForwarding, Target
from deltaplane.model import Kind, ObjectKey
from nodeagent.conntrack.clients import NOBODY, Guarded, Stay, guard, narrowed
from nodeagent.conntrack.places import Flows, Place, flows_of

if TYPE_CHECKING:
    from nodeagent.conntrack.query import Flow

LEFT = ObjectKey(Kind.SERVICE, "", "")  # of clean-ups for frontends that the kernel had and no Service has


class CleanUp(NamedTuple):
    """Flows to `place` that are to go: those answered by `sources`, or, if `others`, by any other.

    A flow that was never translated is answered by the place itself, so `others` includes flows from before the
    frontend had an endpoint (J2). Flows of `guarded` stay too: of endpoints that only some clients may use (J9).
    """

    key: ObjectKey
    place: Place
    sources: frozenset[Target]
    others: bool
    guarded: tuple[Guarded, ...] = ()

    def takes(self, flow: Flow) -> bool:
        """Whether the flow goes: by its answering endpoint, and where clients are `guarded`, by its client."""
        if (flow.source in self.sources) is self.others:
            return False
        return not any(each.admits(flow.source, flow.client) for each in self.guarded)


class _Pending(Struct, gc=False):
    """What changed at one place since it was last clean."""

    gone: frozenset[Target] = frozenset()
    whole: bool = False  # it is new, had no endpoint, or admits fewer clients: look at all of its flows

    def add(self, other: _Pending) -> None:
        self.gone |= other.gone
        self.whole |= other.whole


_Changes = dict[tuple[ObjectKey, Place], _Pending]


class Intents:
    """What is forwarded over UDP, and what of it has changed: wanted, then committed, then taken."""

    def __init__(self) -> None:
        self._addresses: frozenset[bytes] = frozenset()
        self._adopted: set[Place] = set()
        self._unknown = {"services", "addresses"}  # what is not known whole yet
        self._services: dict[ObjectKey, Flows] = {}
        self._owners: dict[Place, set[ObjectKey]] = {}
        self._wanted: _Changes = {}
        self._committed: _Changes = {}
        self._taken: _Changes = {}

    # ------------------------------------------------------------ in

    def adopt(self, places: Iterable[Place]) -> None:
        """What the kernel forwarded before the start; a node port's address is all zeros, as in `flows_of`.

        Whatever of it is not there once all Services and the node's addresses are known was deleted meanwhile, and none
        of its flows stays.
        """
        self._adopted.update(places)

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
            self._update(service.key, flows_of(service.entries))
        if complete:
            for key in self._services.keys() - (names or {service.key for service in services}):
                self._update(key, {})
            self._unknown.discard("services")
        if addresses is not None:
            self._move(frozenset(addresses))
            self._unknown.discard("addresses")
        if self._adopted and not self._unknown:
            self._leave()

    def commit(self, failed: Container[ObjectKey] = ()) -> bool:
        """The kernel has what was wanted, except of the `failed`; whether anything is to be cleaned."""
        if self._wanted:
            for index in [index for index in self._wanted if index[0] not in failed]:
                _add(self._committed, index, self._wanted.pop(index))
        return bool(self._committed)

    def again(self, items: Iterable[CleanUp]) -> None:
        """These of the last `take` could not be done, and are due again, with all that was known of them."""
        for item in items:
            index = item.key, item.place
            _add(self._committed, index, self._taken[index])

    # ------------------------------------------------------------ out

    def take(self) -> list[CleanUp]:
        """What is to be cleaned now; flows of endpoints that came back meanwhile stay."""
        changes, self._committed = self._committed, {}
        self._taken = changes
        items = (self._clean_up(key, place, change) for (key, place), change in changes.items())
        return [item for item in items if item.others or item.sources]

    def renewed(self, items: Iterable[CleanUp]) -> list[CleanUp]:
        """These of the last `take`, as they are now: a flow that is found may lead to an endpoint that came since."""
        return [self._clean_up(item.key, item.place, self._taken[item.key, item.place]) for item in items]

    def _clean_up(self, key: ObjectKey, place: Place, change: _Pending) -> CleanUp:
        valid = list(self._valid(place))
        free = frozenset(target for stay in valid if not stay.ranges for target in stay.targets)
        guarded = [stay for stay in valid if stay.ranges]
        if change.whole and (key == LEFT or self._forwards(key, place)):
            return CleanUp(key, place, free, others=True, guarded=tuple(map(guard, guarded)))
        gone = change.gone - free
        back = [stay for stay in guarded if not gone.isdisjoint(stay.targets)]
        return CleanUp(key, place, gone, others=False, guarded=tuple(map(guard, back)))

    def _forwards(self, key: ObjectKey, place: Place) -> bool:
        return any(key in self._owners.get(each, ()) for each in self._names(place))

    def _valid(self, place: Place) -> Iterator[Stay]:
        """Whose flows stay: of two Services that claim one place, neither loses flows to the other's change."""
        for each in self._names(place):
            for key in self._owners.get(each, ()):
                yield self._services[key][each]

    def _names(self, place: Place) -> Iterator[Place]:
        yield place
        if place.address in self._addresses:
            yield Place(bytes(len(place.address)), place.port)

    # ------------------------------------------------------------ changes

    def _update(self, key: ObjectKey, after: Flows) -> None:
        before = self._services.get(key, {})
        if before == after:
            return
        for place in before.keys() | after.keys():
            for concrete in self._concrete(place):
                self._note(key, concrete, before.get(place), after.get(place))
        for place in before.keys() - after.keys():
            self._disown(place, key)
        for place in after.keys() - before.keys():
            self._owners.setdefault(place, set()).add(key)
        if after:
            self._services[key] = after
        else:
            del self._services[key]

    def _leave(self) -> None:
        for adopted in self._adopted:
            for place in self._concrete(adopted):
                if not any(name in self._owners for name in self._names(place)):
                    _add(self._wanted, (LEFT, place), _Pending(whole=True))
        self._adopted.clear()

    def _disown(self, place: Place, key: ObjectKey) -> None:
        owners = self._owners[place]
        owners.discard(key)
        if not owners:
            del self._owners[place]

    def _concrete(self, place: Place) -> Iterator[Place]:
        """A node port is a place on each of the node's addresses, and on no other (J4)."""
        if any(place.address):
            yield place
            return
        for address in sorted(self._addresses):
            if len(address) == len(place.address):
                yield Place(address, place.port)

    def _move(self, addresses: frozenset[bytes]) -> None:
        """Node ports open on new addresses and close on old ones; a walk over the Services, for a rare event."""
        opened, closed = addresses - self._addresses, self._addresses - addresses
        if not opened and not closed:
            return
        for key, flows in self._services.items():
            for place, valid in flows.items():
                if not any(place.address):
                    self._shift(key, place, valid, opened, closed)
        self._addresses = addresses

    def _shift(
        self,
        key: ObjectKey,
        place: Place,
        valid: Stay,
        opened: frozenset[bytes],
        closed: frozenset[bytes],
    ) -> None:
        for address in opened | closed:
            if len(address) == len(place.address):
                spans = (None, valid) if address in opened else (valid, None)
                self._note(key, Place(address, place.port), *spans)

    def _note(self, key: ObjectKey, place: Place, before: Stay | None, after: Stay | None) -> None:
        if before == after:
            return
        then, now = before or NOBODY, after or NOBODY
        gone = frozenset(then.targets).difference(now.targets)
        fewer = bool(then.targets) and narrowed(then.ranges, now.ranges)
        fresh = before is None or (not then.targets and bool(now.targets))
        whole = after is not None and (fresh or fewer)
        if gone or whole:
            _add(self._wanted, (key, place), _Pending(gone, whole))


def _add(changes: _Changes, index: tuple[ObjectKey, Place], change: _Pending) -> None:
    known = changes.setdefault(index, change)
    if known is not change:
        known.add(change)
