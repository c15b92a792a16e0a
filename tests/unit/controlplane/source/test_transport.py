"""What the sockets to the API server are told, read back from a connection that stands."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from controlplane.source import transport
from tests.unit.controlplane.source.apiserver import ApiServer, added, bookmark, service, watch
from tests.unit.controlplane.source.following import following

TCP = socket.IPPROTO_TCP


async def test_a_connection_whose_peer_is_gone_ends_within_45_seconds(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    make = transport.make_socket

    def noted(place: Any) -> socket.socket:
        made.append(make(place))
        return made[-1]

    monkeypatch.setattr(transport, "make_socket", noted)
    server.then(watch(added(service("a")), bookmark("5", end=True), hold=True))
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a"})
        (one,) = made
        assert one.getpeername()[1] == int(server.url.rsplit(":", 1)[1])
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, interval = (one.getsockopt(TCP, option) for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL))
        probes, unanswered = one.getsockopt(TCP, socket.TCP_KEEPCNT), one.getsockopt(TCP, socket.TCP_USER_TIMEOUT)
        assert idle + interval * probes <= 45
        assert 0 < unanswered + interval * 1000 <= 45_000
