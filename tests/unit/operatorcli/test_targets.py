"""What `get` is asked for, and connections whose target is a Service."""

from __future__ import annotations

import re

import pytest

from operatorcli import names
from operatorcli.aim import Port, choose
from operatorcli.exits import Failed
from operatorcli.targets import Target, parsed

SVC, SLICE, NODE = names.SERVICE, names.SLICE, names.NODE
HTTP = Port("10.96.0.10", "http", 80, "TCP")
DNS = [
    Port("10.96.0.20", "dns", 53, "UDP"),
    Port("10.96.0.20", "dns-tcp", 53, "TCP"),
    Port("fd00::20", "dns", 53, "UDP"),
]
CLIENT = "10.244.1.7"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("svc", [Target(SVC)]),
        ("services", [Target(SVC)]),
        ("svc web", [Target(SVC, "", "web")]),
        ("service web db", [Target(SVC, "", "web"), Target(SVC, "", "db")]),
        ("svc shop/web test/db", [Target(SVC, "shop", "web"), Target(SVC, "test", "db")]),
        ("svc/web", [Target(SVC, "", "web")]),
        ("svc/shop/web node/node-a", [Target(SVC, "shop", "web"), Target(NODE, "", "node-a")]),
        ("svc svc/web", [Target(SVC, "", "web")]),
        ("endpoints web", [Target(SLICE, "", "web")]),
        ("no node-a", [Target(NODE, "", "node-a")]),
    ],
)
def test_objects_are_named_as_kubectl_does_and_as_other_verbs_do(words: str, found: list[Target]) -> None:
    assert parsed(words.split()) == found


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("pods", "there is no kind 'pods'"),
        ("svc a/b/c", "is not svc/NAME"),
        ("svc/", "is not svc/NAME"),
        ("node shop/node-a", "is not node/NAME"),
        ("svc/web db", "db after KIND/NAME"),
        ("svc Web", "'Web' is no name"),
    ],
)
def test_what_is_no_object_says_what_is(words: str, text: str) -> None:
    with pytest.raises(Failed, match=text):
        parsed(words.split())


@pytest.mark.parametrize(
    ("ports", "wanted", "protocol", "found"),
    [
        ([HTTP], "", "", HTTP),
        ([HTTP], "http", "", HTTP),
        ([HTTP], "80", "TCP", HTTP),
        (DNS, "53", "TCP", DNS[1]),
        (DNS, "dns", "", DNS[0]),
    ],
)
def test_a_services_port_may_be_left_out_where_there_is_just_one(
    ports: list[Port], wanted: str, protocol: str, found: Port
) -> None:
    assert choose(ports, CLIENT, wanted, protocol, "svc/x") == found


@pytest.mark.parametrize(
    ("ports", "wanted", "text", "advice"),
    [
        (DNS, "", "which port is meant", r"53/UDP \(dns\), 53/TCP \(dns-tcp\)"),
        (DNS, "80", "there is no such port", r"53/UDP \(dns\)"),
        ([], "", "has no cluster IP", "get endpoints"),
        (DNS[2:], "", "has no cluster IP of the family of 10.244.1.7", "fd00::20"),
    ],
)
def test_a_port_that_is_not_clear_names_those_that_there_are(
    ports: list[Port], wanted: str, text: str, advice: str
) -> None:
    with pytest.raises(Failed, match=text) as found:
        choose(ports, CLIENT, wanted, "", "svc/x")
    assert re.search(advice, found.value.advice)
