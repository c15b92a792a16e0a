"""When no node sends new connections to a pod's address any more, as a revision of this replica.

An endpoint that terminates stays in its slice, and is used while no ready one is left; so the slices alone do not say
it. What each kind of node makes of the Services that have the address is resolved (`deltaplane.taking`). Looks at a
slice again only when it has changed. What sends to it again, because the last ready endpoint has left, ends what was
reached.

Nobody remembers which Services had the address before this began, and kernels may have it still: so nothing older than
the head of then is enough.
"""

from __future__ import annotations

from controlplane.inspection.here import Here
from controlplane.inspection.targets import FIRST
from deltaplane.addresses import parse_address
from deltaplane.model import EndpointSlice, Kind, ObjectKey, ServiceName
from deltaplane.names import shown_address
from deltaplane.taking import endpoint_of, takes, why_it_takes

SHOWN = 5  # Services that are named; the text is said of each node that lacks it


class OfRemoval:
    """`keys`: the Services and slices that have the address, or had it since this began. `looks`: at what nodes make
    of them."""

    def __init__(self, here: Here, address: str) -> None:
        self._here, self._packed = here, parse_address(address)
        self._slices: dict[ServiceName, set[ObjectKey]] = {}  # of each Service that has or had the address
        self._epoch, self._at, self._rev = b"", 0, 0
        self._began = FIRST  # the head when all slices were looked through
        self.looks = 0

    @property
    def keys(self) -> frozenset[ObjectKey]:
        services = (ObjectKey(Kind.SERVICE, *name) for name in self._slices)
        return frozenset((*services, *(key for keys in self._slices.values() for key in keys)))

    def reached(self) -> int | None:
        here, log = self._here, self._here.cluster.log
        if not here.cluster.ready:
            return None
        again = self._epoch != log.epoch or not log.holds(self._at)
        if again:
            self._rev = 0
            self._begin()
        elif not self._concerned() or (self._rev and not self._using()):
            self._at = log.head
            return self._rev or None  # what changes and does not send to it again is not waited for
        self._epoch, self._at = log.epoch, log.head
        self._rev = 0 if self._using() else max(FIRST, self._began, self._last_change())
        return self._rev or None

    def _begin(self) -> None:
        self._slices.clear()
        self._began = self._here.head
        for name in self._here.services_at(self._packed):
            for piece in self._here.slices_of(*name):
                self._note(piece)

    def _concerned(self) -> bool:
        """Whether anything that has to do with the address has changed since the last look."""
        log, found = self._here.cluster.log, False
        touched = self._here.recent.between(log, self._at, log.head)
        if self._packed not in touched.came and touched.services.isdisjoint(self._slices):
            return False
        for batch in log.between(self._at, log.head):
            for change in batch.changes:
                noted = isinstance(change.object, EndpointSlice) and self._note(change.object)
                found = found or noted or change.key in self.keys
        return found

    def _note(self, piece: EndpointSlice) -> bool:
        """Takes note of a slice of a Service that has the address; whether it is one."""
        name = (piece.namespace, piece.service)
        if name not in self._slices and self._has(piece):
            self._slices[name] = {each.key for each in self._here.slices_of(*name)}
        if name not in self._slices:
            return False
        self._slices[name].add(piece.key)
        return True

    def _has(self, piece: EndpointSlice) -> bool:
        return endpoint_of(piece, self._packed) is not None

    def _last_change(self) -> int:
        lineage = self._here.cluster.lineage
        return max(((lineage.gone(key) or lineage.of(key)).rev for key in self.keys), default=FIRST)

    def _pieces(self, name: ServiceName) -> list[EndpointSlice]:
        found = (self._here.cluster.store.get(key) for key in sorted(self._slices[name]))
        return [each for each in found if isinstance(each, EndpointSlice) and (each.namespace, each.service) == name]

    def _using(self) -> list[str]:
        """The Services by which some node still sends connections to the address."""
        self.looks += 1
        return [f"{name[0]}/{name[1]}" for name in sorted(self._slices) if self._sends(name)]

    def _sends(self, name: ServiceName) -> bool:
        key, service = ObjectKey(Kind.SERVICE, *name), self._here.service(*name)
        return takes(self._packed, key, service, self._pieces(name))

    def text(self) -> str:
        using = self._using()
        at = shown_address(self._packed)
        if not using:
            return ""
        more = f" and {len(using) - SHOWN} more" if len(using) > SHOWN else ""
        return f"{at} still takes new connections of Service {', '.join(using[:SHOWN])}{more}: {self._why()}"

    def _why(self) -> str:
        return why_it_takes(self._packed, [piece for name in self._slices for piece in self._pieces(name)])
