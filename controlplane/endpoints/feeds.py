"""What the reflectors tell, into what the controllers know; the Services that it touches go into their queues.

Nothing is queued before every kind is listed: a Service without its Pods would lose its endpoints. Then everything is
queued once: what changed while nobody led is found, and what did not costs no write.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from controlplane.endpoints.controller import Controller
from controlplane.endpoints.kinds import Watched
from controlplane.endpoints.known import Known
from controlplane.endpoints.values import Name
from controlplane.facts import Fact
from deltaplane.logs import event
from deltaplane.model import Kind, ObjectKey

log = logging.getLogger(__name__)

Setter = Callable[[Name, Any], set[Name]]


class Feeds:
    """A `facts.Sink` of the kinds in `kinds.Watched`. `makes`: which controllers a kind's own changes concern."""

    def __init__(self, known: Known, controllers: Iterable[Controller], kinds: Iterable[Watched]) -> None:
        self._known = known
        self._controllers = list(controllers)
        self._missing = set(kinds)
        self._setters: dict[int, Setter] = {
            Watched.SERVICE: known.set_service,
            Watched.POD: known.set_pod,
            Watched.NODE: lambda name, node: known.set_node(name[1], node),
            Watched.ENDPOINT_SLICE: known.set_slice,
            Watched.ENDPOINTS: known.set_endpoints,
        }

    @property
    def ready(self) -> bool:
        """Whether every kind is listed."""
        return not self._missing

    def update(self, facts: Iterable[Fact]) -> None:
        """Takes changes as they happen, in order (facts.Sink)."""
        for fact in facts:
            self._changed(self._setters[fact.key.kind](_name(fact.key), fact.object))

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        """Takes a complete list of one kind (facts.Sink)."""
        listed = list(facts)
        names = {_name(fact.key) for fact in listed}
        for name in self._absent(kind, names, resource_version):
            self._changed(self._setters[kind](name, None))
        self.update(listed)

    def _absent(self, kind: int, names: set[Name], version: str) -> list[Name]:
        known = self._known
        if kind == Watched.ENDPOINT_SLICE:
            return known.absent_slices(names, version)
        if kind == Watched.ENDPOINTS:
            return known.absent_endpoints(names, version)
        if kind == Watched.NODE:
            return [("", name) for name in known.nodes if ("", name) not in names]
        return [name for name in (known.pods if kind == Watched.POD else known.services) if name not in names]

    def synced(self, kind: Kind) -> None:
        """The kind is complete (facts.Sink). The last kind starts the controllers."""
        if self.ready:
            return
        self._missing.discard(Watched(kind))
        if not self._missing:
            everyone = self._known.everyone
            event(
                log, logging.INFO, "endpoints controllers know the cluster", services=len(self._known.services),
                pods=len(self._known.pods), nodes=len(self._known.nodes),
            )  # fmt: skip
            self._changed(everyone)

    def _changed(self, names: set[Name]) -> None:
        if self.ready and names:
            for controller in self._controllers:
                controller.changed(names)


def _name(key: ObjectKey) -> Name:
    return (key.namespace, key.name)
