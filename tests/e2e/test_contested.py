"""An address that two Services ask for stays with its holder, and the other one's Events say who that is."""

from __future__ import annotations

from typing import Any

from tests.e2e.shop import LIMIT, Shop, names, reached, until_reached
from tools.lab import manifests
from tools.lab.client import until

SHARED = "198.18.21.1"


def events(shop: Shop, service: str) -> list[dict[str, Any]]:
    """Those about an address, on this Service."""
    found = shop.rest.call("GET", "/api/v1/namespaces/default/events")["items"]
    wanted = ("Service", service, "AddressOfAnotherService")
    return [
        one for one in found if (one["involvedObject"]["kind"], one["involvedObject"]["name"], one["reason"]) == wanted
    ]


def told(shop: Shop, service: str, *texts: str) -> None:
    """Until one Event on the Service has all of these words, as a warning."""

    def found() -> bool:
        messages = [one["message"] for one in events(shop, service) if one["type"] == "Warning"]
        return any(all(text in message for text in texts) for message in messages)

    until(found, LIMIT, what=lambda: f"an Event with {texts}: {events(shop, service)}")


def test_a_cluster_address_is_no_other_services_external_address(shop: Shop) -> None:
    """It stands before the holder by name, and asks for the very port: it gets nothing, and is told."""
    mine, theirs = shop.fabric.pods[:2], shop.fabric.pods[2:4]
    address = shop.open("holder")[0]
    shop.endpoints(mine, "holder")
    until_reached(shop.clients["pod"], address, 80, "tcp", mine)

    with shop.line.change():
        shop.open("aaa", externalIPs=[address])
        shop.endpoints(theirs, "aaa")
    told(shop, "aaa", address, "default/holder")

    for client in ("pod", "node"):
        assert reached(shop.clients[client], address, 80, "tcp") == names(mine)
    assert events(shop, "holder") == []


def test_of_two_external_addresses_the_holder_keeps_it_and_the_other_has_it_after(shop: Shop) -> None:
    """The elder one, by creation or, within one second, by name."""
    first, second = shop.fabric.pods[:2], shop.fabric.pods[2:4]
    shop.fabric.route(f"{SHARED}/32", shop.fabric.nodes[0])
    shop.open("elder", externalIPs=[SHARED])
    shop.endpoints(first, "elder")
    until_reached(shop.clients["outside"], SHARED, 80, "tcp", first)

    with shop.line.change():
        shop.open("younger", externalIPs=[SHARED])
        shop.endpoints(second, "younger")
    told(shop, "younger", SHARED, "default/elder")
    assert reached(shop.clients["outside"], SHARED, 80, "tcp") == names(first)

    shop.rest.delete(manifests.service("elder", []))
    until_reached(shop.clients["outside"], SHARED, 80, "tcp", second)
