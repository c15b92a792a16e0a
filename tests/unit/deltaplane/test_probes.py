"""A gRPC server for probes keeps few idle connections, and none for long."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import grpc.aio
import pytest

from deltaplane import probes


def files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_idle_connections_do_not_use_up_the_files_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CONNECTIONS", 8)
    server = grpc.aio.server(options=(*probes.options(), ("grpc.server_handshake_timeout_ms", 500)))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    before = files()
    with ExitStack() as idle:
        clients = [idle.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(100)]
        async with asyncio.timeout(20):
            while files() - before > len(clients) + 8:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.02)
            while files() - before > len(clients):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    await server.stop(None)


async def test_a_unix_socket_that_another_program_listens_at_is_not_bound(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert not probes.bind(grpc.aio.server(), f"unix://{path}")
    assert probes.bind(grpc.aio.server(), f"unix://{path}")  # what is left behind is nobody's
