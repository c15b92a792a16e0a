"""What becomes of a Service whose slices are refused in part: by an admission policy, a quota or another writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.endpoints.kinds import Watched
from controlplane.endpoints.slicing import SERVICE_NAME
from controlplane.endpoints.values import ServicePort
from tests.unit.controlplane.endpoints.server import Server
from tests.unit.controlplane.endpoints.test_controller import SLICES, Run, running
from tests.unit.controlplane.endpoints.things import pod, pods, service

DUAL = service(families=("IPv4", "IPv6"))


def by_family(server: Server) -> dict[str, list[bool]]:
    """The readiness of the endpoints of each family."""
    slices = server.list("endpointslices")
    return {one["addressType"]: [end["conditions"]["ready"] for end in one["endpoints"]] for one in slices}


async def refused_once_more(run: Run) -> None:
    """Until a sync has failed from now on."""
    before = run.syncs["endpointslice", "error"]
    await until(lambda: run.syncs["endpointslice", "error"] > before)


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():  # noqa: ASYNC110 - what the controllers do is not told by events
            await asyncio.sleep(0.005)


async def test_a_slice_that_is_refused_holds_up_no_other_one_of_its_service() -> None:
    for family, other in (("IPv4", "IPv6"), ("IPv6", "IPv4")):
        server = Server()
        async with running(server, [DUAL], pods(2)) as run:
            server.refuses = lambda thing, family=family: thing.get("addressType") == family  # type: ignore[misc]
            run.tell(Watched.POD, pod(0, ready=False))
            await refused_once_more(run)
            assert by_family(server) == {family: [True, True], other: [False, True]}
            server.refuses = lambda _: False
            await run.idle()
            assert by_family(server) == {family: [False, True], other: [False, True]}


@pytest.mark.parametrize("name", ["new", "n" * 63])
async def test_a_slice_that_cannot_be_made_is_told_once(caplog: pytest.LogCaptureFixture, name: str) -> None:
    """The server names it anew with each try."""
    server = Server()
    async with running(server) as run:
        server.refuses = lambda thing: thing["kind"] == "EndpointSlice"
        run.tell(Watched.SERVICE, service(name))
        await until(lambda: server.refusals > 4)
        server.refuses = lambda _: False
        await run.idle()
    said = [each for each in caplog.messages if "cannot sync Service" in each and f"shop/{name}" in each]
    assert len(said) == 1
    assert f"{name}-*" in said[0]


async def test_a_conflict_with_one_slice_holds_up_no_other_one() -> None:
    """Somebody writes the one slice again and again: each attempt meets another version."""
    server = Server()
    async with running(server, [DUAL], pods(2)) as run:
        (one,) = (each for each in server.list("endpointslices") if each["addressType"] == "IPv4")
        path = f"{SLICES}/{one['metadata']['name']}"

        def touched(thing: Any) -> bool:
            if thing.get("addressType") == "IPv4":
                server.put(path, one)
            return False

        server.refuses = touched
        run.tell(Watched.POD, pod(0, ready=False))
        await until(lambda: run.syncs["endpointslice", "conflict"] > 1)
        assert by_family(server) == {"IPv4": [True, True], "IPv6": [False, True]}
        server.refuses = lambda _: False
        await run.idle()
        assert by_family(server) == {"IPv4": [False, True], "IPv6": [False, True]}


async def test_a_slice_is_not_deleted_while_the_one_with_its_endpoints_is_refused() -> None:
    """The Service of this name is another one now, and its slice cannot be made: the old one goes on serving."""
    server = Server()
    async with running(server, members=pods(2)) as run:
        server.refuses = lambda thing: thing["kind"] == "EndpointSlice"
        run.tell(Watched.SERVICE, service(uid="another"))
        await refused_once_more(run)
        assert run.endpoints == [["10.1.0.1", "10.1.0.2"]]
        server.refuses = lambda _: False
        await run.idle()
        (one,) = server.list("endpointslices")
        assert one["metadata"]["ownerReferences"][0]["uid"] == "another"


async def test_a_slice_whose_pods_are_gone_is_deleted_though_another_is_refused() -> None:
    server = Server()
    async with running(server, [DUAL], pods(2)) as run:
        server.refuses = lambda thing: thing.get("addressType") == "IPv4"
        ports = (ServicePort("http", "TCP", 8080), ServicePort("more", "TCP", 9090))
        run.tell(Watched.SERVICE, service(ports=ports))
        await refused_once_more(run)
        assert list(by_family(server)) == ["IPv4"]


async def test_the_slices_of_a_service_that_is_gone_are_deleted_though_one_cannot_be() -> None:
    server = Server()
    async with running(server, members=pods(101)) as run:
        kept = server.list("endpointslices")[0]["metadata"]["name"]
        server.keeps = lambda path: path.endswith(f"/{kept}")
        run.gone(Watched.SERVICE, "web")
        await refused_once_more(run)
        assert [one["metadata"]["name"] for one in server.list("endpointslices")] == [kept]
        assert server.list("endpointslices")[0]["metadata"]["labels"][SERVICE_NAME] == "web"
        server.keeps = lambda _: False
        await run.idle()
        assert server.list("endpointslices") == []
