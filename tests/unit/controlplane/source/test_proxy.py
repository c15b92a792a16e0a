"""NO_PROXY and its companions, read as Go's httpproxy package reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.source.proxy import proxy_for
from tests.unit.controlplane.source.apiserver import ApiServer, added, bookmark, service, watch
from tests.unit.controlplane.source.following import following, until

PROXY = "http://proxy:3128"
BOTH = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": "http://plain:3128"}


@pytest.mark.parametrize(
    "rules, url, direct",
    [
        ("", "https://10.96.0.1", False),
        ("*", "https://10.96.0.1", True),
        ("192.0.2.0/24, 10.0.0.0/8", "https://10.96.0.1:443", True),
        ("10.0.0.1/8", "https://10.96.0.1", True),
        ("10.0.0.0/16", "https://10.96.0.1", False),
        ("10.0.0.0/8", "https://10.example", False),
        ("10.0.0.0/99,nonsense/8,,", "https://10.96.0.1", False),
        ("fd00::/8", "https://[fd00::1]:6443", True),
        ("fd00::/8", "https://10.0.0.1", False),
        ("10.0.0.0/8", "https://[::ffff:10.0.0.1]", True),
        ("10.96.0.1", "https://10.96.0.1", True),
        ("0.96.0.1", "https://10.96.0.1", False),
        ("10.96.0.1:6443", "https://10.96.0.1:6443", True),
        ("10.96.0.1:6443", "https://10.96.0.1", False),
        ("10.96.0.1:443", "https://10.96.0.1", True),
        ("fd00::1", "https://[fd00:0::1]", True),
        ("[fd00::1]:6443", "https://[fd00::1]:6443", True),
        ("[fd00::1]:6443", "https://[fd00::1]", False),
        ("[fd00::1]", "https://[fd00::1]", True),
        ("example.com", "https://example.com", True),
        ("example.com", "https://api.Example.com", True),
        ("example.com", "https://notexample.com", False),
        (".example.com", "https://example.com", False),
        (".example.com", "https://api.example.com", True),
        ("*.example.com", "https://api.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("EXAMPLE.com:6443", "https://api.example.com:6443", True),
        ("example.com:6443", "https://api.example.com", False),
        (":443", "https://api.example.com", False),
        ("", "https://localhost:6443", True),
        ("", "https://127.0.0.9:6443", True),
        ("", "https://[::1]:6443", True),
    ],
)
def test_no_proxy_covers_what_it_covers_for_other_programs(rules: str, url: str, direct: bool) -> None:
    assert proxy_for(url, {**BOTH, "NO_PROXY": rules}) == ("" if direct else PROXY)
    assert proxy_for(url, {**BOTH, "no_proxy": rules}) == ("" if direct else PROXY)


@pytest.mark.parametrize(
    "environment, url, proxy",
    [
        (BOTH, "http://10.0.0.1", "http://plain:3128"),
        ({"http_proxy": PROXY}, "http://10.0.0.1", PROXY),
        ({"http_proxy": PROXY}, "https://10.0.0.1", ""),
        ({"ALL_PROXY": PROXY}, "https://10.0.0.1", ""),
        ({"HTTPS_PROXY": "proxy:3128"}, "https://10.0.0.1", PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://other:1"}, "https://10.0.0.1", PROXY),
        ({}, "https://10.0.0.1", ""),
    ],
)
def test_the_scheme_says_which_proxy(environment: dict[str, str], url: str, proxy: str) -> None:
    assert proxy_for(url, environment) == proxy


async def test_the_client_asks_through_the_proxy_what_no_rule_exempts(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small server is the proxy here: it is sent what is meant for another address."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    server.then(watch(added(service("a")), bookmark("5", end=True), hold=True))
    elsewhere = ApiServer()
    elsewhere.url = "http://192.0.2.1:8080"
    async with following(elsewhere, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a"})
    assert server.headers[0]["Host"] == "192.0.2.1:8080"


async def test_the_client_goes_directly_where_a_network_of_no_proxy_covers_the_server(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "240.0.0.0/4")  # no route leads there: refused at once
    elsewhere = ApiServer()
    elsewhere.url = "http://240.0.0.1:8080"
    async with following(elsewhere, tmp_path) as run:
        await until(lambda: run.reflector.failure)
    assert server.queries == []
