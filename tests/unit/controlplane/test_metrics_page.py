"""The metrics page has few connections, none for ever, and room for a second client."""

from __future__ import annotations

import socket
import urllib.request
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry

from controlplane import metrics_page
from controlplane.metrics_page import CONNECTIONS, start
from tools.lab.client import until


def fetch(port: int, source: str) -> int:
    with socket.create_connection(("127.0.0.1", port), 5, source_address=(source, 0)) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return int(client.recv(1000).split(b" ")[1])


def test_idle_connections_of_one_address_leave_room_for_another() -> None:
    server, end = start("127.0.0.1", 0, CollectorRegistry())
    with ExitStack() as idle:
        idle.callback(end)
        for _ in range(100):
            idle.enter_context(socket.create_connection(("127.0.0.1", server.server_port), 5))
        until(lambda: server.refused >= 100 - CONNECTIONS // 2)
        assert fetch(server.server_port, "127.0.0.2") == 200


def test_who_asks_nothing_is_dropped_and_its_place_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_page._Handler, "timeout", 0.05)
    server, end = start("127.0.0.1", 0, CollectorRegistry())
    try:
        with socket.create_connection(("127.0.0.1", server.server_port), 5) as idle:
            assert idle.recv(1) == b""
        until(lambda: not len(server._shares))
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=5) as answer:
            assert answer.status == 200
    finally:
        end()
