"""The proxy by itself, on loopback: datagrams, limits, and files that run out."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Target
from nodeagent.dataplane.userspace.connection_limits import RESERVE
from nodeagent.dataplane.userspace.pipes import Pipe, Pipes
from nodeagent.dataplane.userspace.plan import Line, Port
from nodeagent.dataplane.userspace.proxy import Order, Proxy
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.errors import KernelUnavailable
from tests.unit.nodeagent.dataplane.userspace.support import KEY, LOCAL, Server, packed, target
from tools.lab.client import until

HERE = (packed("127.0.0.1"), 0)
TCP, UDP = Port(KEY, "p", 4, 6, "cluster"), Port(KEY, "p", 4, 17, "cluster")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy(LOCAL)
    made.start()
    yield made
    made.close()


def opened(proxy: Proxy, port: Port, *targets: Target, **line: object) -> int:
    number = proxy.serve({port: Order(Line(tuple(sorted(targets)), **line), HERE)})[port]  # type: ignore[arg-type]
    assert isinstance(number, int)
    return number


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(5)
        yield made


def ask(client: socket.socket, number: int) -> str:
    client.sendto(b"?", ("127.0.0.1", number))
    return client.recv(100).decode()


def test_a_datagrams_answer_comes_from_where_it_was_sent(proxy: Proxy, client: socket.socket) -> None:
    servers = [Server(name, socket.SOCK_DGRAM) for name in "ab"]
    number = opened(proxy, UDP, *(one.target for one in servers))
    client.connect(("127.0.0.1", number))
    first = {client.send(b"?") and client.recv(100) for _ in range(5)}
    assert len(first) == 1  # one client, one endpoint
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
        another.settimeout(5)
        assert {ask(another, number).encode()} | first == {b"a", b"b"}
    assert (proxy.count().flows, proxy.count().clients) == (2, 2)
    proxy.retire([UDP])
    assert (proxy.count().flows, proxy.count().clients) == (0, 2)


def test_the_first_datagram_goes_on_to_an_endpoint_that_is_there(proxy: Proxy, client: socket.socket) -> None:
    server = Server("there", socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        dead = target(gone.getsockname()[1])
    number = opened(proxy, UDP, dead, server.target)
    for _ in range(4):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
            fresh.settimeout(5)
            assert ask(fresh, number) == "there"
    assert proxy.count().failed == 0
    opened(proxy, UDP, dead)
    client.sendto(b"?", ("127.0.0.1", number))
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)


def test_who_waits_for_an_answer_waits_longer_than_who_has_one(client: socket.socket) -> None:
    made = Proxy(replace(LOCAL, udp_idle=0.05, udp_patience=60.0, max_flows=2))
    made.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        number = opened(made, UDP, target(server.getsockname()[1]))
        client.sendto(b"slow", ("127.0.0.1", number))
        _, peer = server.recvfrom(100)
        time.sleep(0.3)
        assert made.count().flows == 1
        server.sendto(b"at last", peer)
        assert client.recv(100) == b"at last"
        until(lambda: made.count().flows == 0)
        several = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
        for one in several:
            one.sendto(b"?", ("127.0.0.1", number))
            server.recv(100)
        assert made.count().flows == 2
        for one in several:
            one.close()
    made.close()


def test_a_client_moves_with_its_affinity(proxy: Proxy) -> None:
    servers = [Server(name) for name in "abc"]
    number = opened(proxy, TCP, *(one.target for one in servers), affinity=60)

    def talk() -> str:
        with socket.create_connection(("127.0.0.1", number), timeout=5) as connection:
            return connection.recv(10).decode()

    first = talk()
    assert {talk() for _ in range(5)} == {first}
    next(one for one in servers if one.name.decode() == first).close()
    second = talk()
    assert second != first
    assert {talk() for _ in range(5)} == {second}
    assert proxy.count().connected == 12


def test_who_wants_to_see_the_traffic_does(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    server = Server("seen")
    number = opened(proxy, TCP, server.target)
    with caplog.at_level(logging.DEBUG, logger="nodeagent.dataplane.userspace"):
        with socket.create_connection(("127.0.0.1", number), timeout=5) as connection:
            assert connection.recv(100) == b"seen"
        until(lambda: caplog.messages)
    said = caplog.messages[-1]
    assert "connection is over" in said
    assert 'service="Service default/web" port=p client=127.0.0.1' in said
    assert "to_endpoint=0 to_client=4" in said


def test_a_taken_number_is_replaced_by_another(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        found = proxy.serve({TCP: Order(Line((target(1),)), (HERE[0], number))})[TCP]
        assert found not in (0, number)
    assert (
        proxy.serve({UDP: Order(Line((target(1),)), (packed("192.0.2.1"), 0))})[UDP]
        == "Cannot assign requested address"
    )


def test_without_a_pipe_a_direction_waits_for_one(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    server, tries, take = Server("patient"), [0], Pipes.take

    def scarce(pipes: Pipes) -> Pipe:
        tries[0] += 1
        if tries[0] < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return take(pipes)

    monkeypatch.setattr(Pipes, "take", scarce)
    with socket.create_connection(("127.0.0.1", opened(proxy, TCP, server.target)), timeout=5) as connection:
        assert connection.recv(100) == b"patient"
    assert tries[0] >= 3


def test_connections_that_would_take_the_last_files_wait(proxy: Proxy) -> None:
    server = Server("x")
    number = opened(proxy, TCP, server.target)
    proxy._limits.files = RESERVE + 2  # the listener's own, and one more
    with socket.create_connection(("127.0.0.1", number), timeout=0.2) as connection:
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert proxy.count().waiting == 1
        proxy._limits.files += 1
        proxy._do(proxy._limits.resume)
        connection.settimeout(5)
        assert connection.recv(1) == b"x"


def test_without_a_file_for_the_endpoint_the_client_is_told(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    server = Server("x")
    number = opened(proxy, TCP, server.target)
    monkeypatch.setattr("nodeagent.dataplane.userspace.sockets.upstream", none)
    with (
        pytest.raises(ConnectionResetError),  # as early as by connecting
        socket.create_connection(("127.0.0.1", number), timeout=5) as connection,
    ):
        connection.recv(1)
    assert proxy.count().failed == 1


def test_one_clients_idle_connections_leave_room_for_others(caplog: pytest.LogCaptureFixture) -> None:
    made = Proxy(replace(LOCAL, max_connections=8))
    made.start()
    server = Server("a")
    with ExitStack() as idle, socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        kept = opened(made, TCP, target(silent.getsockname()[1]))
        number = opened(made, TCP._replace(name="q"), server.target)
        for _ in range(100):
            with suppress(ConnectionResetError):
                idle.enter_context(socket.create_connection(("127.0.0.1", kept), timeout=5))
        until(lambda: made.count().crowded == 96)
        assert (made.count().connections, made.count().waiting) == (4, 0)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", number), 5, source_address=("127.0.0.2", 0)) as client:
                assert client.recv(10) == b"a"
    until(lambda: made.count().connections == 0)
    with socket.create_connection(("127.0.0.1", number), timeout=5) as client:
        assert client.recv(10) == b"a"  # what it gave back it may have again
    server.close()
    made.close()
    assert len([record for record in caplog.records if "has its share" in record.getMessage()]) == 1


def test_an_ended_proxy_says_so() -> None:
    made = Proxy(replace(LOCAL, backlog=1))
    made.start()
    opened(made, TCP, target(1))
    made.close()
    made.close()
    with pytest.raises(KernelUnavailable, match="does not answer"):
        made.count()


def test_addresses_and_marks_follow_the_settings() -> None:
    settings = Settings(("10.0.0.0/8",), masquerade_bit=3)
    assert (settings.address(4), len(settings.address(6)), settings.mark) == (packed("169.254.86.1"), 16, 8)
    assert settings.table == "deltaplane-userspace"
