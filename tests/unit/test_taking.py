"""Whether any node sends to an address: by what each kind of node makes of the Service, and not by conditions alone."""

from __future__ import annotations

import pytest

from deltaplane.addresses import parse_address
from deltaplane.model import (
    Conditions,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)
from deltaplane.taking import takes, why_it_takes

ADDRESS, OTHER = parse_address("10.0.0.1"), parse_address("10.0.0.2")
READY = int(Conditions.READY | Conditions.SERVING)
LEAVING = int(Conditions.SERVING | Conditions.TERMINATING)
PUBLISHED = READY | Conditions.TERMINATING


def service(policy: int = TrafficPolicy.CLUSTER) -> Service:
    ports = (ServicePort("", Protocol.TCP, 80),)
    return Service(
        "shop", "web", ServiceType.CLUSTER_IP, (parse_address("10.96.0.1"),), ports, internal_traffic_policy=policy
    )


def pieces(mine: int, other: int | None = None, other_node: str = "b") -> list[EndpointSlice]:
    endpoints = [Endpoint(ADDRESS, mine, "a")]
    endpoints += [] if other is None else [Endpoint(OTHER, other, other_node)]
    return [EndpointSlice("shop", "web-1", "web", 4, (EndpointPort("", Protocol.TCP, 80),), tuple(endpoints))]


@pytest.mark.parametrize(
    ("mine", "other", "taken"),
    [(READY, READY, True), (LEAVING, READY, False), (LEAVING, None, True), (LEAVING, LEAVING, True), (0, READY, False)],
    ids=["ready", "terminates beside a ready one", "terminates alone", "all terminate", "not ready"],
)
def test_an_endpoint_that_terminates_is_taken_while_no_ready_one_is_left(
    mine: int, other: int | None, *, taken: bool
) -> None:
    assert takes(ADDRESS, service().key, service(), pieces(mine, other)) is taken


def test_a_local_policy_keeps_an_endpoint_that_terminates_on_its_own_node_though_another_node_has_a_ready_one() -> None:
    local = service(TrafficPolicy.LOCAL)
    assert takes(ADDRESS, local.key, local, pieces(LEAVING, READY))
    assert not takes(ADDRESS, local.key, local, pieces(LEAVING, READY, other_node="a"))


def test_an_address_that_no_slice_has_and_a_service_that_is_gone_take_nothing() -> None:
    assert not takes(parse_address("10.9.9.9"), service().key, service(), pieces(READY))
    assert not takes(ADDRESS, service().key, None, pieces(READY))


@pytest.mark.parametrize(
    ("conditions", "said"),
    [(READY, "it is ready"), (LEAVING, "no ready endpoint is left"), (int(PUBLISHED), "publishes addresses")],
)
def test_why_it_is_taken_is_said(conditions: int, said: str) -> None:
    assert said in why_it_takes(ADDRESS, pieces(conditions))
