"""ServiceCIDRs on the real API server: ranges come, are used and go; nodes drop what no Service has (F6, KEP-1880)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.shop import LIMIT, Shop, names, reached, until_reached
from tools.lab import manifests
from tools.lab.client import REFUSED, TIMEOUT, connect, until
from tools.lab.fabric import SERVICE_CIDRS
from tools.lab.manifests import Object, port
from tools.lab.rest import Refused
from tools.lab.rules import nft, run

FAMILIES = {4: "ip", 6: "ip6"}
MORE = {4: "172.29.7.0/24", 6: "fd00:10:97::/112"}
UNUSED = {4: "172.29.7.200", 6: "fd00:10:97::200"}  # in MORE
TAKEN = {4: "172.29.7.10", 6: "fd00:10:97::10"}
NOBODYS = {4: "172.30.250.1", 6: "fd00:10:96::fa01"}  # in the range the API server began with


def dropped(shop: Shop, family: int) -> list[set[str]]:
    """The ranges every node drops from, as the stock `nft` reads them."""
    return [_ranges(nft(node.space, "list", "set", FAMILIES[family], "deltaplane", "service-cidrs"))
            for node in shop.fabric.nodes]  # fmt: skip


def _ranges(text: str) -> set[str]:
    _, found, rest = text.partition("elements = {")
    return {part.strip() for part in rest.partition("}")[0].split(",")} if found else set()


def until_dropped(shop: Shop, *more: dict[int, str]) -> None:
    for family, first in ((4, SERVICE_CIDRS[0]), (6, SERVICE_CIDRS[1])):
        wanted = {first, *(each[family] for each in more)}
        until(
            lambda: all(each == wanted for each in dropped(shop, family)),  # noqa: B023
            LIMIT, what=lambda: f"{wanted}, not {dropped(shop, family)}",  # noqa: B023
        )  # fmt: skip


def service_cidr(name: str = "more") -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
        "spec": {"cidrs": list(MORE.values())},
    }  # fmt: skip


@pytest.fixture
def more(shop: Shop) -> Iterator[Object]:
    """Another range for both families, ready as the controller manager would say; gone after the test."""
    made = shop.rest.apply(service_cidr())
    ready: dict[str, Any] = {"type": "Ready", "status": "True", "reason": "", "message": "",
                             "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    shop.rest.apply(service_cidr() | {"status": {"conditions": [ready]}}, "status")
    yield made
    shop.rest.delete(service_cidr())


@pytest.fixture
def somebody(shop: Shop) -> Iterator[None]:
    """A machine beyond the nodes has the unused addresses: what a node does not drop gets there, and is refused."""
    for address in UNUSED.values():
        run(shop.fabric.router, "ip", "address", "add", address, "dev", "lo")
    yield
    for address in UNUSED.values():
        run(shop.fabric.router, "ip", "address", "del", address, "dev", "lo")


def test_what_no_service_has_is_dropped_in_every_family(shop: Shop) -> None:
    until_dropped(shop)
    for client in (shop.clients["pod"], shop.clients["node"]):
        for address in NOBODYS.values():
            assert connect(client, address, 80, timeout=0.5).kind == TIMEOUT


@pytest.mark.usefixtures("somebody")
def test_a_range_that_comes_is_dropped_from_at_once_and_no_longer_when_it_goes(shop: Shop, more: Object) -> None:
    until_dropped(shop, MORE)
    client = shop.clients["pod"]
    for address in UNUSED.values():
        assert connect(client, address, 80, timeout=0.5).kind == TIMEOUT
    shop.rest.delete(more)
    until_dropped(shop)
    for address in UNUSED.values():
        assert connect(client, address, 80, timeout=0.5).kind == REFUSED


@pytest.mark.usefixtures("more")
def test_a_service_with_addresses_of_a_new_range_is_served_and_its_neighbours_are_not(shop: Shop) -> None:
    until_dropped(shop, MORE)
    body = manifests.service("my-service", [port(80, 8080, "web"), port(80, 8080, "dns", "UDP")], TAKEN.values())
    until(lambda: _taken(shop, body), LIMIT, what="the API server allocates from the new range")
    shop.endpoints(shop.fabric.pods)
    client = shop.clients["pod"]
    for family, address in TAKEN.items():
        until_reached(client, address, 80, "tcp", shop.fabric.pods)
        assert reached(client, address, 80, "udp") == names(shop.fabric.pods)
        assert connect(client, UNUSED[family], 80, timeout=0.5).kind == TIMEOUT
    shop.rest.delete(body)
    for address in TAKEN.values():
        until(lambda: connect(client, address, 80, timeout=0.5).kind == TIMEOUT, LIMIT, what="a drop")  # noqa: B023


def _taken(shop: Shop, body: Object) -> bool:
    try:
        shop.rest.apply(body)
    except Refused:
        return False
    return True
