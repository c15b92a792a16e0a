"""The metrics page has few connections, none for ever, and room for a second client."""

from __future__ import annotations

import os
import resource
import socket
import urllib.request
from contextlib import ExitStack
from types import SimpleNamespace

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


def test_a_page_without_a_file_for_a_connection_says_so_once_waits_and_takes_it_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    monkeypatch.setattr(metrics_page, "time", SimpleNamespace(sleep=pause))
    server, end = start("127.0.0.1", 0, CollectorRegistry())
    try:
        with socket.socket() as client:
            client.settimeout(20)
            least = os.dup(client.fileno())
            os.close(least)
            resource.setrlimit(resource.RLIMIT_NOFILE, (least, limits[1]))
            client.connect(server.server_address[:2])
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert b"200 OK" in client.recv(1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        end()
    assert len(pauses) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"may open {least} files" in caplog.text
