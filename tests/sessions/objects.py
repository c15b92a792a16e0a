"""Small objects for the session tests."""

from __future__ import annotations

from deltaplane.model import (
    Conditions,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Kind,
    Node,
    ObjectKey,
    Service,
    ServicePort,
)

READY = int(Conditions.READY | Conditions.SERVING)


def service(number: int, version: int = 0) -> Service:
    return Service("ns", f"svc-{number}", 1, (bytes((10, 96, version, number)),), (ServicePort("http", 6, 80),))


def slice_of(number: int, endpoints: dict[int, int], owner: int | None = None, port: int = 8080) -> EndpointSlice:
    """`endpoints`: last byte of the address -> conditions."""
    items = tuple(
        Endpoint(bytes((10, 0, 0, last)), conditions, f"node-{last % 3}", f"zone-{last % 2}")
        for last, conditions in sorted(endpoints.items())
    )
    owner = number if owner is None else owner
    return EndpointSlice("ns", f"svc-{number}-abc", f"svc-{owner}", 4, (EndpointPort("http", 6, port),), items)


def slice_key(number: int) -> ObjectKey:
    return ObjectKey(Kind.ENDPOINT_SLICE, "ns", f"svc-{number}-abc")


def service_key(number: int) -> ObjectKey:
    return ObjectKey(Kind.SERVICE, "ns", f"svc-{number}")


def node(number: int, zone: str = "") -> Node:
    return Node(f"node-{number}", f"uid-{number}", (bytes((192, 168, 0, number)),), zone)


def named_node(name: str) -> Node:
    return Node(name)
