"""The objects of a scenario as the product's source would hand them on: YAML documents to model values, step by step.

Called by the columns that run the product. Goes through the manifests source's own reading, so what that source does
to an object (defaults, leniency, skipping) is part of what is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from controlplane.source import documents
from deltaplane.model import KIND_NAMES, EndpointSlice, Kind, Node, Object, ObjectKey, Service, ServiceCidr
from tests.flows.scenario import Step
from tools.lab.fabric import SERVICE_CIDRS

VERSIONS = {
    "Service": "v1",
    "Node": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "ServiceCIDR": "networking.k8s.io/v1",
}
_CLUSTER_SCOPED = {"Node", "ServiceCIDR"}
RANGES = {"kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": list(SERVICE_CIDRS)}}


def whole(thing: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the version and namespace that the corpus leaves out."""
    metadata = dict(thing["metadata"])
    if thing["kind"] not in _CLUSTER_SCOPED:
        metadata.setdefault("namespace", "default")
    return {"apiVersion": VERSIONS[thing["kind"]], **thing, "metadata": metadata}


def named(text: str) -> tuple[str, str, str]:
    """Kind, namespace and name of "Kind name" or "Kind namespace/name"."""
    kind, _, name = text.partition(" ")
    namespace, _, name = name.rpartition("/")
    return kind, "" if kind in _CLUSTER_SCOPED else namespace or "default", name


class World:
    """All objects there are, to begin with the range of Services. `apply` tells which Services a step touched."""

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, Object] = {}
        self._put(whole(RANGES))

    def apply(self, step: Step) -> set[ObjectKey]:
        """Takes the step's objects in; the keys of the Services that have to be resolved again."""
        before = {slice_.key: slice_ for slice_ in self._of(EndpointSlice)}
        changed = {self._put(whole(thing)) for thing in step.apply}
        kinds = {name: kind for kind, name in KIND_NAMES.items()}
        for text in step.delete:
            kind, namespace, name = named(text)
            changed.add(ObjectKey(kinds[kind], namespace, name))
            del self._objects[ObjectKey(kinds[kind], namespace, name)]
        if any(key.kind in (Kind.NODE, Kind.SERVICE_CIDR) for key in changed):
            changed |= set(self._objects)
        return {owner for key in changed for owner in self._owners(key, before)}

    def _put(self, thing: dict[str, Any]) -> ObjectKey:
        [entry] = documents.read(yaml.safe_dump(thing))
        assert entry.key is not None, entry.problems
        if entry.fact is not None:  # else it cannot be used, and its last good state stays
            self._objects.pop(entry.key, None)
            if entry.fact.object is not None:
                self._objects[entry.key] = entry.fact.object
        return entry.key

    def _owners(self, key: ObjectKey, before: Mapping[ObjectKey, EndpointSlice]) -> set[ObjectKey]:
        if key.kind is Kind.SERVICE:
            return {key}
        slices = [s for s in (before.get(key), self._objects.get(key)) if isinstance(s, EndpointSlice)]
        return {ObjectKey(Kind.SERVICE, s.namespace, s.service) for s in slices}

    def _of(self, kind: type[Object]) -> list[Any]:
        return [thing for thing in self._objects.values() if isinstance(thing, kind)]

    def objects(self) -> list[Object]:
        """Everything there is."""
        return list(self._objects.values())

    def service(self, key: ObjectKey) -> Service | None:
        found = self._objects.get(key)
        return found if isinstance(found, Service) else None

    def services(self) -> list[ObjectKey]:
        return [service.key for service in self._of(Service)]

    def slices(self, owner: ObjectKey) -> list[EndpointSlice]:
        """The slices of one Service, by name."""
        mine = [s for s in self._of(EndpointSlice) if (s.namespace, s.service) == (owner.namespace, owner.name)]
        return sorted(mine, key=lambda s: s.name)

    def node(self, name: str) -> Node | None:
        found = self._objects.get(ObjectKey(Kind.NODE, "", name))
        return found if isinstance(found, Node) else None

    def service_cidrs(self) -> tuple[str, ...]:
        return tuple(sorted({text for cidr in self._of(ServiceCidr) for text in cidr.cidrs}))
