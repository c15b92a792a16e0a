"""Where the page may be served: people's tokens do not travel in plain text, and nobody is believed by accident."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from controlplane.errors import ControlPlaneError
from controlplane.page import place
from controlplane.page.http import Request, Response, Server, said
from controlplane.settings import parse
from deltaplane.flags import UsageError

TLS = ("--tls-cert-file=a", "--tls-private-key-file=b")


@pytest.mark.parametrize(
    "security, where",
    [
        (TLS, "127.0.0.1:8080"),
        (TLS, "127.0.0.2:8080"),
        (TLS, "[::1]:8080"),
        (TLS, "localhost:8080"),
        (TLS, "unix:///run/page.sock"),
        (("--insecure",), "0.0.0.0:8080"),
        (("--insecure",), ":8080"),
        (("--listen=unix:///run/cp.sock",), "unix:///run/page.sock"),
        (("--listen=unix:///run/cp.sock", "--insecure"), "127.0.0.1:8080"),
    ],
)
def test_these_go_together(security: tuple[str, ...], where: str) -> None:
    assert parse((*security, f"--http-listen={where}")).http_listen == where


@pytest.mark.parametrize(
    "security, where, why",
    [
        (TLS, "0.0.0.0:8080", "give a loopback address"),
        (TLS, ":8080", "give a loopback address"),
        (TLS, "10.0.0.1:8080", "give a loopback address"),
        (TLS, "page.example:8080", "give a loopback address"),
        (("--listen=unix:///run/cp.sock",), "127.0.0.1:8080", "give unix:///PATH, or --insecure"),
        (TLS, "nonsense", "is not HOST:PORT"),
    ],
)
def test_these_do_not(security: tuple[str, ...], where: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"--http-listen.*{why}"):
        parse((*security, f"--http-listen={where}"))


def test_without_the_flag_there_is_no_page() -> None:
    assert parse(("--insecure",)).http_listen == ""


async def site(request: Request) -> Response:
    return said(200, request.client or "nobody in particular")


async def test_a_socket_is_for_this_user_alone_and_an_address_in_use_is_named(tmp_path: Path) -> None:
    path = tmp_path / "page.sock"
    listening = await place.bound(f"unix://{path}", Server(site))
    async with asyncio.timeout(20):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).endswith(b"nobody in particular\n")
        writer.close()
        with pytest.raises(ControlPlaneError, match="another program listens there"):
            await place.bound(f"unix://{path}", Server(site))
    listening.close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ControlPlaneError, match=f"--http-listen={where}: .*in use"):
            await place.bound(where, Server(site))
