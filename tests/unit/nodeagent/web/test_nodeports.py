"""Health check node ports: which listeners there are, and what they answer, live (K1, K4, E14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from deltaplane.forwarding import HealthCheck, ServiceForwarding
from deltaplane.model import Kind, ObjectKey
from nodeagent.web.nodeports import EVERYWHERE, Addresses, HealthCheckNodePorts, Listener, Wanted, answer
from nodeagent.web.server import listen
from tests.unit.nodeagent.web.client import get
from tools.lab.ports import free_port

WEB = ObjectKey(Kind.SERVICE, "shop", "web")
API = ObjectKey(Kind.SERVICE, "shop", "api")
LOOPBACK: Addresses = {4: (b"\x7f\0\0\1",), 6: (b"\0" * 15 + b"\1",)}


def forwarding(key: ObjectKey, port: int, four: int | None = None, six: int | None = None) -> ServiceForwarding:
    counts = [(family, number) for family, number in ((4, four), (6, six)) if number is not None]
    return ServiceForwarding(key, health_check=HealthCheck(port, tuple(counts)))


def test_a_listener_for_each_family_of_the_service() -> None:
    wanted = Wanted()
    assert wanted.update([forwarding(WEB, 30000, four=1, six=0), forwarding(API, 30001, four=0)])

    assert wanted.difference([]) == (
        [],
        [Listener(API, 4, "0.0.0.0", 30001), Listener(WEB, 4, "0.0.0.0", 30000), Listener(WEB, 6, "::", 30000)],
    )


def test_a_listener_for_each_address_of_node_ports() -> None:
    wanted = Wanted({4: (b"\x0a\0\0\1", b"\x0a\0\0\2"), 6: None})
    wanted.update([forwarding(WEB, 30000, four=1, six=1)])

    assert {listener.host for listener in wanted.listeners()} == {"10.0.0.1", "10.0.0.2", "::"}

    assert wanted.move({4: (), 6: ()})
    assert wanted.listeners() == set()
    assert not wanted.move({4: (), 6: ()})


def test_numbers_change_without_a_change_of_listeners() -> None:
    wanted = Wanted()
    wanted.update([forwarding(WEB, 30000, four=1)])

    assert not wanted.update([forwarding(WEB, 30000, four=7)])
    assert wanted.local_ready(WEB, 4) == 7
    assert wanted.local_ready(WEB, 6) == wanted.local_ready(API, 4) == 0


@pytest.mark.parametrize("now", [forwarding(WEB, 30001, four=1), ServiceForwarding(WEB), forwarding(WEB, 30000, six=1)])
def test_another_port_family_or_none_closes_the_listener(now: ServiceForwarding) -> None:
    wanted = Wanted()
    wanted.update([forwarding(WEB, 30000, four=1)])
    open_now = wanted.listeners()

    assert wanted.update([now])
    closing, opening = wanted.difference(open_now)
    assert closing == [Listener(WEB, 4, "0.0.0.0", 30000)]
    assert opening == sorted(wanted.listeners())


@pytest.mark.parametrize(
    "local, healthy, status", [(0, True, 503), (1, True, 200), (3, True, 200), (3, False, 503), (0, False, 503)]
)
def test_what_is_answered(local: int, healthy: bool, status: int) -> None:
    response = answer(WEB, local, healthy=healthy)

    assert (response.status, response.content_type) == (status, "application/json")
    assert dict(response.headers) == {
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(local),
    }
    assert isinstance(response.body, str)
    assert response.body.splitlines() == [
        "{",
        '\t"service": {',
        '\t\t"namespace": "shop",',
        '\t\t"name": "web"',
        "\t},",
        f'\t"localEndpoints": {local},',
        f'\t"serviceProxyHealthy": {str(healthy).lower()}',
        "}",
    ]


class Running:
    """The edge on loopback; `healthy` may be switched."""

    def __init__(self) -> None:
        self.healthy = True
        self.ports = HealthCheckNodePorts(lambda: self.healthy, LOOPBACK, retry=0.02)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    started = Running()
    task = asyncio.create_task(started.ports.run())
    yield started
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def status(port: int, host: str = "127.0.0.1") -> int:
    try:
        return (await get(port, "/any/path", host)).status
    except ConnectionError:
        return 0


async def becomes(port: int, expected: int, host: str = "127.0.0.1") -> None:
    async with asyncio.timeout(10):
        while await status(port, host) != expected:  # noqa: ASYNC110 - another process would have to tell
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the edge tells nobody
            await asyncio.sleep(0.01)


async def test_a_port_lives_with_its_service(running: Running) -> None:
    port, other = free_port(), free_port()
    running.ports.update([forwarding(WEB, port, four=1, six=0)])
    await becomes(port, 200)
    await becomes(port, 503, "::1")

    running.ports.update([forwarding(WEB, port, four=0, six=2)])
    assert (await status(port), await status(port, "::1")) == (503, 200)

    running.healthy = False
    assert await status(port, "::1") == 503
    running.healthy = True

    running.ports.update([forwarding(WEB, other, four=1)])
    await becomes(other, 200)
    assert (await status(port), await status(port, "::1")) == (0, 0)

    running.ports.update([ServiceForwarding(WEB)])
    await becomes(other, 0)


async def test_a_complete_state_ends_what_it_does_not_name(running: Running) -> None:
    port, other = free_port(), free_port()
    running.ports.update([forwarding(WEB, port, four=1), forwarding(API, other, four=1)])
    await becomes(port, 200)
    await becomes(other, 200)

    running.ports.update([forwarding(API, other, four=1)], names={API})

    await becomes(port, 0)
    assert await status(other) == 200


async def test_a_port_goes_over_from_one_service_to_another(running: Running) -> None:
    port = free_port()
    running.ports.update([forwarding(WEB, port, four=1)])
    await becomes(port, 200)

    running.ports.update([ServiceForwarding(WEB), forwarding(API, port, four=1)])
    await until(lambda: not running.ports.failures())
    await becomes(port, 200)

    assert (await get(port)).json["service"]["name"] == "api"


async def test_a_taken_port_is_reported_on_its_service_and_opened_when_it_is_free(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        other = free_port()
        running.ports.update([forwarding(WEB, port, four=1), forwarding(API, other, four=1)])
        await becomes(other, 200)
        await until(lambda: bool(running.ports.failures()))
        (failed,) = running.ports.failures()
        await asyncio.sleep(0.1)

    assert (failed.key, failed.code) == (WEB, "CONFLICT")
    assert failed.text == f"health check node port {port} on 127.0.0.1: Address already in use; retrying"
    await becomes(port, 200)
    assert running.ports.failures() == ()
    assert len([record for record in caplog.records if "cannot be opened" in record.message]) == 1


async def test_a_service_that_goes_takes_its_failure_along(running: Running) -> None:
    with listen("127.0.0.1", 0) as taken:
        running.ports.update([forwarding(WEB, taken.getsockname()[1], four=1)])
        await until(lambda: bool(running.ports.failures()))
        running.ports.update([ServiceForwarding(WEB)])
        await until(lambda: not running.ports.failures())


async def test_listeners_follow_the_addresses_of_node_ports(running: Running) -> None:
    port = free_port()
    running.ports.update([forwarding(WEB, port, four=1)])
    await becomes(port, 200)

    running.ports.move({4: (), 6: ()})
    await becomes(port, 0)

    running.ports.move(EVERYWHERE)
    await becomes(port, 200)
