"""Which tracked UDP flows a change makes stale: derived from the change itself, in cost and in reach.

`Intents` keeps, of every Service with UDP ports, which endpoints its frontends' flows may stay with, and notes what
each change takes away. Called by `cleaner`, on the agent's thread. Pure: knows no kernel and no clock. Row ids are
those of docs/behaviour.md; after kube-proxy 1.36 and its later fixes (Services without endpoints, deleted Services).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from deltaplane.forwarding import Entry, FrontendKind, ServiceForwarding, Target
from deltaplane.model import Kind, ObjectKey, Protocol
from nodeagent.conntrack.clients import NOBODY, Guarded, Stay, guard, narrowed

if TYPE_CHECKING:
    from nodeagent.conntrack.query import Flow

_UDP = int(Protocol.UDP)
LEFT = ObjectKey(Kind.SERVICE, "", "")  # of clean-ups for frontends that the kernel had and no Service has
_EVERY = {4: b"\0" * 4, 6: b"\0" * 16}  # stands for the node's own addresses until they are put in


class Place(NamedTuple):
    """Where a flow was sent by its client: a packed address and a port. The family is the address's length."""

    address: bytes
    port: int
    protocol: int = _UDP


Flows = Mapping[Place, Stay]  # of one Service: where to, with whom a flow may stay, and whose


class CleanUp(NamedTuple):
    """Flows to `place` that are to go: those answered by `sources`, or, if `others`, by anybody but `sources`.

    A flow that was never translated is answered by the place itself, so `others` takes those of the time before the
    frontend had an endpoint, too (J2). What is `guarded` stays besides: endpoints that only some clients may use (J9).
    """

    key: ObjectKey
    place: Place
    sources: frozenset[Target]
    others: bool
    guarded: tuple[Guarded, ...] = ()

    def takes(self, flow: Flow) -> bool:
        """Whether the flow goes: by who answers it, and where the clients are `guarded`, by who asked."""
        if (flow.source in self.sources) is self.others:
            return False
        return not any(each.admits(flow.source, flow.client) for each in self.guarded)


class _Pending(Struct, gc=False):
    """What changed at one place since it was last clean."""

    gone: frozenset[Target] = frozenset()
    whole: bool = False  # it is new, or had nobody, or admits fewer clients: look at all of its flows

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
    ) -> None:
        """Takes in what is about to be committed. `addresses`: where node ports answer; None: as before."""
        for service in services:
            self._update(service.key, flows_of(service.entries))
        if complete:
            for key in self._services.keys() - {service.key for service in services}:
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
        """What is to be cleaned now, as things stand now: whoever came back meanwhile is left alone."""
        changes, self._committed = self._committed, {}
        self._taken = changes
        items = (self._clean_up(key, place, change) for (key, place), change in changes.items())
        return [item for item in items if item.others or item.sources]

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
        """Whose flows stay: two Services may claim one place, and neither disturbs the other's."""
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


def place_of(family: int, address: bytes, port: int) -> Place:
    """A frontend's; `address` is empty for a node port."""
    return Place(address or _EVERY[family], port)


def flows_of(entries: Iterable[Entry]) -> Flows:
    """The UDP frontends of one Service, each with the endpoints its flows may stay with (J2), and with whose.

    Those are the serving ones, whatever policy, topology and termination say of new flows, and the chosen ones. Of an
    address given twice, as an external IP too, the ranges count, as in the kernel.
    """
    flows: dict[Place, Stay] = {}
    for entry in entries:
        frontend = entry.frontend
        if frontend.protocol == _UDP:
            place = place_of(frontend.family, frontend.address, frontend.port)
            known = flows.get(place, NOBODY)
            targets = _union(known.targets, entry.serving, entry.targets, entry.local_targets or ())
            ranges = entry.source_ranges if frontend.kind == FrontendKind.LOAD_BALANCER else ()
            flows[place] = Stay(targets, known.ranges or ranges)
    return flows


def _union(*lists: tuple[Target, ...]) -> tuple[Target, ...]:
    """All of them; nearly always that is the serving ones alone, whose tuple is shared then."""
    longest = max(lists, key=len)
    everything = set().union(*lists)
    return longest if len(everything) == len(longest) else tuple(sorted(everything))
