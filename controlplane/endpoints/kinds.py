"""The kinds that the endpoints controllers follow, as facts of `controlplane.facts`. Pure.

They are the controllers' own, beside those of the stream (`deltaplane.model.Kind`): a Service here is its selector and
ports, a Pod is never streamed. The reflectors of `controlplane.source` follow them by `form`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any, cast

from controlplane.endpoints import objects, translate
from controlplane.errors import InvalidObject
from controlplane.facts import Fact
from controlplane.source.decode import Form
from controlplane.source.objects import Metadata
from controlplane.source.translate import Translation
from controlplane.source.usable import Problems
from deltaplane.model import Kind, ObjectKey


class Watched(IntEnum):
    """Numbers beside those of the wire's kinds."""

    SERVICE = 101
    POD = 102
    NODE = 103
    ENDPOINT_SLICE = 104
    ENDPOINTS = 105
    DEPLOYMENT = 106  # of a folder


_NUMBERS = frozenset(map(int, Watched))
NAMES = {
    Watched.SERVICE: "Service",
    Watched.POD: "Pod",
    Watched.NODE: "Node",
    Watched.ENDPOINT_SLICE: "EndpointSlice",
    Watched.ENDPOINTS: "Endpoints",
    Watched.DEPLOYMENT: "Deployment",
}


class Key(ObjectKey):
    """The name of an object of a `Watched` kind; its text is another than that of the same object in the stream."""

    __slots__ = ()

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{NAMES[Watched(self.kind)]} {name} for endpoints"


def watched_of(kind: int) -> Watched | None:
    """Which of these a fact's kind is; None: one of the stream's."""
    return Watched(kind) if kind in _NUMBERS else None


def kind_of(watched: Watched) -> Kind:
    """The kind as facts have it."""
    return cast(Kind, watched)


def key_of(watched: Watched, metadata: Metadata) -> ObjectKey:
    """The object's key. Raises `InvalidObject` if it has no name."""
    namespace = "" if watched is Watched.NODE else metadata.namespace
    key = Key(kind_of(watched), namespace, metadata.name)
    if not metadata.name or (not namespace and watched is not Watched.NODE):
        raise InvalidObject(f"{key}: metadata.name or metadata.namespace: missing")
    return key


def fact_of(watched: Watched, thing: Any, event_unix_nano: int = 0) -> Translation:
    """The fact of one object, whose value is one of `values`, or the object itself where it is also written."""
    problems: Problems = []
    key = key_of(watched, thing.metadata)
    value: Any = _VALUES[watched](thing, problems)
    return Translation(Fact(key, value, thing.metadata.resource_version, event_unix_nano), tuple(problems))


def form(watched: Watched) -> Form:
    """How a reflector reads objects of this kind."""
    return Form(TYPES[watched], partial(key_of, watched), partial(fact_of, watched))


def _as_is(thing: Any, _: Problems) -> Any:
    return thing


TYPES: dict[Watched, Any] = {
    Watched.SERVICE: objects.Service,
    Watched.POD: objects.Pod,
    Watched.NODE: objects.Node,
    Watched.ENDPOINT_SLICE: objects.EndpointSlice,
    Watched.ENDPOINTS: objects.Endpoints,
}
_VALUES: dict[Watched, Callable[[Any, Problems], Any]] = {
    Watched.SERVICE: translate.service,
    Watched.POD: translate.pod,
    Watched.NODE: translate.node,
    Watched.ENDPOINT_SLICE: _as_is,
    Watched.ENDPOINTS: _as_is,
}
