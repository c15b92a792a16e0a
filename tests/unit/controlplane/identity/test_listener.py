"""controlplane.identity.listener and health_listener: what they bind, and what they say where they cannot."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from controlplane.certificates import authority
from controlplane.certificates.served import Served
from controlplane.certificates.values import Times
from controlplane.cluster import Cluster
from controlplane.errors import ControlPlaneError
from controlplane.health_listener import HealthListener
from controlplane.identity.flags import Own, Security
from controlplane.identity.listener import Listener
from controlplane.identity.peer import Way
from controlplane.log import Log
from controlplane.report import Report
from controlplane.server import Server
from controlplane.trace import NoTracing
from deltaplane import tls
from tests.certificates import Authority
from tools.lab.ports import free_port

SOCKET = Security(Way.SOCKET)


async def bound(listen: str, security: Security) -> grpc.aio.Server:
    server = grpc.aio.server()
    Listener(listen, security).bind(server)
    await server.start()
    return server


async def test_a_unix_socket_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = await bound(f"unix://{path}", SOCKET)
    assert path.stat().st_mode & 0o777 == 0o600
    await server.stop(None)


async def test_the_port_of_one_address_answers_on_loopback_too_where_a_port_forward_ends() -> None:
    server = grpc.aio.server()
    port = free_port("127.0.0.2")
    Listener(f"127.0.0.2:{port}", Security(Way.INSECURE), loopback=True).bind(server)
    await server.start()

    for host in ("127.0.0.1", "127.0.0.2"):
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
    await server.stop(None)


async def test_loopback_that_another_program_has_is_told_and_does_not_keep_agents_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        Listener(f"127.0.0.2:{port}", Security(Way.INSECURE), loopback=True).bind(server)
        await server.start()
        _, writer = await asyncio.open_connection("127.0.0.2", port)
        writer.close()
    await server.stop(None)

    assert "kubectl port-forward does not reach it" in caplog.text


async def test_a_socket_that_another_program_has_is_not_taken_from_it(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ControlPlaneError, match="another program listens there"):
            await bound(f"unix://{path}", SOCKET)
    server = await bound(f"unix://{path}", SOCKET)  # what a program left that has ended
    await server.stop(None)


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match=r"--listen=unix://.*: cannot bind; is there such a folder"):
        await bound(f"unix://{tmp_path}/none/socket", SOCKET)


async def test_plain_text_is_told_once_and_tls_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plain = await bound("127.0.0.1:0", Security())
    await plain.stop(None)
    told = [record.getMessage() for record in caplog.records]
    assert [text.count("plain text: whoever reaches this address is believed") for text in told] == [1]

    caplog.clear()
    pair = Authority(tmp_path).sign("server", "IP:127.0.0.1")
    files = tls.Files(str(pair.certificate), str(pair.key))
    server = await bound("127.0.0.1:0", Security(Way.TLS, files))
    await server.stop(None)
    assert caplog.records == []


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    files = tls.Files(str(tmp_path / "none.crt"), str(tmp_path / "none.key"))
    with pytest.raises(ControlPlaneError, match=r"--tls-cert-file=.*none\.crt: No such file"):
        await bound("127.0.0.1:0", Security(Way.TLS, files))


async def test_an_address_for_health_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listener = HealthListener(f"127.0.0.1:{port}", health.aio.HealthServicer())
        with pytest.raises(ControlPlaneError, match=rf"--health-listen=127\.0\.0\.1:{port}: cannot bind"):
            await listener.start()
        await listener.stop()


async def test_without_an_address_there_is_no_health_listener() -> None:
    listener = HealthListener("", health.aio.HealthServicer())
    await listener.start()
    await listener.stop()


async def test_with_certificates_of_its_own_it_binds_when_there_is_one_and_probes_are_answered_before(
    tmp_path: Path,
) -> None:
    served = Served(tls.Kept(tls.Files()))
    own = Own("a", ("127.0.0.1",), Times())
    listener = Listener("127.0.0.1:0", Security(Way.TLS, own=own), served)
    probes = f"unix://{tmp_path}/probes"
    cluster = Cluster(Log(), NoTracing(), Report())
    server = Server("127.0.0.1:0", cluster, NoTracing(), listener=listener, health_listen=probes)
    binds: list[grpc.aio.Server] = []
    listener.bind = binds.append  # type: ignore[method-assign, assignment]
    await server.start()
    running = asyncio.create_task(server.run())
    try:
        async with grpc.aio.insecure_channel(probes) as channel:
            asked = health_pb2.HealthCheckRequest(service="liveness")
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(asked, wait_for_ready=True)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert binds == []
        now = time.time()
        served.serve(authority.sign(authority.make(now - 9, now + 99), own.names, now - 9, now + 99))
        async with asyncio.timeout(20):
            while not binds:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await server.stop()


async def test_a_replica_that_never_had_a_certificate_stops_in_good_order() -> None:
    listener = Listener("127.0.0.1:0", Security(Way.TLS), Served(tls.Kept(tls.Files())))
    server = Server("127.0.0.1:0", Cluster(Log(), NoTracing(), Report()), NoTracing(), listener=listener)
    await server.start()

    async with asyncio.timeout(20):
        await server.stop()


async def test_a_replica_whose_certificate_has_ended_is_not_ready_until_it_has_another(tmp_path: Path) -> None:
    served = Served(tls.Kept(tls.Files()))
    now = time.time()
    signer = authority.make(now - 9, now + 99)
    good, ended = (authority.sign(signer, ("127.0.0.1",), now - 9, now + until) for until in (99, -1))
    served.serve(good)
    cluster, probes = Cluster(Log(), NoTracing(), Report()), f"unix://{tmp_path}/probes"
    listener = Listener("127.0.0.1:0", Security(Way.TLS), served)
    server = Server("127.0.0.1:0", cluster, NoTracing(), listener=listener, health_listen=probes)
    await server.start()
    cluster.whole.set()
    running = asyncio.create_task(server.run())
    try:
        async with grpc.aio.insecure_channel(probes) as channel, asyncio.timeout(20):
            stub: Any = health_pb2_grpc.HealthStub(channel)
            states = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            await told(states, health_pb2.HealthCheckResponse.SERVING)
            served.serve(ended)
            await told(states, health_pb2.HealthCheckResponse.NOT_SERVING)
            served.serve(good)
            await told(states, health_pb2.HealthCheckResponse.SERVING)
    finally:
        running.cancel()
        await server.stop()


async def told(states: Any, status: int) -> None:
    """Reads what a Watch says until it says this."""
    while (await states.read()).status != status:
        pass
