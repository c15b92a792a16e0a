"""What the newest revisions have changed, worked out once for all who look whether it concerns them.

Whoever waits looks at the same time as the others, from the same revision: so the last answer is the one that is asked
for again, and each change is looked at once, however many wait.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from controlplane.log import Log
from controlplane.store import Change
from deltaplane.model import Endpoint, EndpointSlice, Kind, Patch, ServiceName


class Touched(Struct, frozen=True):
    """`services`: that changed, by themselves or in a slice. `came`: packed addresses that slices may have got."""

    services: frozenset[ServiceName]
    came: frozenset[bytes]


class Recent:
    """Of one replica. `looks`: at changes."""

    def __init__(self) -> None:
        self.looks = 0
        self._of, self._found = (b"", 0, 0), Touched(frozenset(), frozenset())

    def between(self, log: Log, low: int, high: int) -> Touched:
        """By the revisions (low, high]. Raises LookupError where the log does not have them."""
        asked = log.epoch, low, high
        if asked != self._of:
            changes = [change for batch in log.between(low, high) for change in batch.changes]
            self._found, self._of = _touched(changes), asked
            self.looks += len(changes)
        return self._found


def _touched(changes: Iterable[Change]) -> Touched:
    services, came = set[ServiceName](), set[bytes]()
    for change in changes:
        if change.key.kind is Kind.SERVICE:
            services.add((change.key.namespace, change.key.name))
        for piece in (change.before, change.object):
            if isinstance(piece, EndpointSlice):
                services.add((piece.namespace, piece.service))
        came.update(endpoint.address for endpoint in _came(change))
    return Touched(frozenset(services), frozenset(came))


def _came(change: Change) -> Iterable[Endpoint]:
    """What a patch does not name has been there before."""
    if isinstance(change.op, Patch):
        return change.op.upserts
    return change.object.endpoints if isinstance(change.object, EndpointSlice) else ()
