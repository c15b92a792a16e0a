"""What people write for objects and connections, and what is refused before anything is dialled."""

from __future__ import annotations

import pytest

from operatorcli import names
from operatorcli.exits import Exit, Failed
from operatorcli.text import key


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("svc/web", "svc/shop/web"),
        ("service/other/web", "svc/other/web"),
        ("SVC/web", "svc/shop/web"),
        ("node/node-a.example", "node/node-a.example"),
        ("endpointslice/web-v4", "endpointslice/shop/web-v4"),
    ],
)
def test_an_object_is_named_with_or_without_its_namespace(given: str, wanted: str) -> None:
    assert key(names.key(given, "shop")) == wanted


@pytest.mark.parametrize("given", ["web", "svc/", "svc//web", "pod/web", "svc/a/b/c", "svc/Web", "svc/a b", "svc/é"])
def test_what_names_no_object_is_wrong_usage(given: str) -> None:
    with pytest.raises(Failed) as failed:
        names.key(given, "shop")
    assert failed.value.code is Exit.USAGE
    assert failed.value.advice


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("10.96.0.10:80", "10.96.0.10:80/TCP"),
        ("10.96.0.10:53/udp", "10.96.0.10:53/UDP"),
        ("[fd00::1]:443/SCTP", "[fd00::1]:443/SCTP"),
    ],
)
def test_a_connection_has_a_protocol(target: str, wanted: str) -> None:
    assert names.shown(names.connection("10.0.0.1", target)) == wanted


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("10.0.0.1", "10.96.0.10"), ("10.0.0.1", "10.96.0.10:0"), ("10.0.0.1", "10.96.0.10:70000"),
        ("10.0.0.1", "10.96.0.10:80/ICMP"), ("10.0.0.1", "web.shop:80"), ("pod-a", "10.96.0.10:80"),
        ("10.0.0.1", "fd00::1:443"),
    ],
)  # fmt: skip
def test_what_is_no_connection_is_wrong_usage_with_an_example(source: str, target: str) -> None:
    with pytest.raises(Failed) as failed:
        names.connection(source, target)
    assert failed.value.code is Exit.USAGE
    assert failed.value.advice
