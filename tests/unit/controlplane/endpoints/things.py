"""Values for the tests beside this file: Services, Pods and Nodes, and slices as a server would keep them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from controlplane.endpoints.objects import EndpointSlice
from controlplane.endpoints.slicing import Write
from controlplane.endpoints.values import NamedPort, Node, Pod, Service, ServicePort

HTTP = ServicePort("http", "TCP", "http")
NODES = {"a": Node("a", "east", 4000, counted=True), "b": Node("b", "west", 4000, counted=True)}


def service(name: str = "web", **given: Any) -> Service:
    fields: dict[str, Any] = {
        "namespace": "shop", "name": name, "uid": f"{name}-1", "labels": {"team": "red"}, "selector": {"app": name},
        "families": ("IPv4",), "ports": (ServicePort("http", "TCP", 8080),), "created": 1000,
    }  # fmt: skip
    return Service(**{**fields, **given})


def pod(number: int, **given: Any) -> Pod:
    fields: dict[str, Any] = {
        "namespace": "shop", "name": f"web-{number}", "uid": f"uid-{number}", "labels": {"app": "web"}, "node": "a",
        "addresses": (f"10.1.{number // 250}.{number % 250 + 1}", f"fd00::{number + 1:x}"), "ready": True,
        "ports": (NamedPort("http", "TCP", 8080),), "ready_since": 2000 + number,
    }  # fmt: skip
    return Pod(**{**fields, **given})


def pods(count: int, **given: Any) -> list[Pod]:
    return [pod(number, **given) for number in range(count)]


def applied(existing: Iterable[EndpointSlice], writes: Sequence[Write]) -> list[EndpointSlice]:
    """The slices after the writes; a created one gets the next free name, as from a server."""
    state = {one.metadata.name: one for one in existing}
    for write in writes:
        if write.before is not None:
            assert state.pop(write.before.metadata.name) == write.before
        if write.after is not None:
            meta = write.after.metadata
            number = next(n for n in range(10_000) if f"{meta.generate_name}{n:04}" not in state)
            name = meta.name or f"{meta.generate_name}{number:04}"
            state[name] = replace(write.after, metadata=replace(meta, name=name))
    return list(state.values())


def shape(slices: Iterable[EndpointSlice]) -> list[int]:
    """How many endpoints each slice has."""
    return sorted(len(one.endpoints or ()) for one in slices)
