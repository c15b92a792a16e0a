"""The controllers at work on a server in memory: what they write, and what becomes of failures and conflicts."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from controlplane.endpoints.controller import Controller
from controlplane.endpoints.core_endpoints import MANAGED_BY as ENDPOINTS_MANAGED_BY
from controlplane.endpoints.feeds import Feeds
from controlplane.endpoints.kinds import Key, Watched, kind_of
from controlplane.endpoints.known import Known
from controlplane.endpoints.makers import EndpointsMaker, Maker, SliceMaker
from controlplane.endpoints.names import SLICE_MANAGER
from controlplane.endpoints.objects import Endpoints, EndpointSlice
from controlplane.endpoints.queue import Queue
from controlplane.endpoints.slicing import MANAGED_BY, SERVICE_NAME
from controlplane.endpoints.values import Node
from controlplane.endpoints.writer import Writer
from controlplane.facts import Fact
from controlplane.source.resource import ApiError
from tests.unit.controlplane.endpoints.server import Object, Server
from tests.unit.controlplane.endpoints.things import pod, pods, service

SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
ENDPOINTS = "/api/v1/namespaces/shop/endpoints/web"
KINDS = (Watched.SERVICE, Watched.POD, Watched.NODE, Watched.ENDPOINT_SLICE, Watched.ENDPOINTS)


class Run:
    """Both controllers, and the watches in the hands of the test."""

    def __init__(self, server: Server, manager: str = SLICE_MANAGER) -> None:
        self.server, self.known = server, Known(manager=manager)
        self.writes: Counter[tuple[str, str, str]] = Counter()
        self.syncs: Counter[tuple[str, str]] = Counter()
        self.may = True
        api: Any = server

        def may() -> bool:
            return self.may

        slices = Writer(api, "discovery.k8s.io", "endpointslices", EndpointSlice, self.writes, may=may)
        core = Writer(api, "", "endpoints", Endpoints, self.writes, may=may)
        makers: dict[str, Maker] = {
            "endpointslice": SliceMaker(self.known, slices),
            "endpoints": EndpointsMaker(self.known, core),
        }
        self.controllers = [
            Controller(name, maker, Queue(jitter=lambda: 0.0), self.syncs) for name, maker in makers.items()
        ]
        self.feeds = Feeds(self.known, self.controllers, KINDS)

    def tell(self, watched: Watched, *values: Any) -> None:
        self.feeds.update(facts(watched, *values))

    def gone(self, watched: Watched, name: str) -> None:
        self.feeds.update([Fact(Key(kind_of(watched), "shop", name), None, deleted=True)])

    def lists(self, services: Any, members: Any) -> None:
        """The first lists; what the controllers wrote before is there."""
        version = str(self.server.version)
        given = {
            Watched.SERVICE: facts(Watched.SERVICE, *services),
            Watched.POD: facts(Watched.POD, *members),
            Watched.NODE: facts(Watched.NODE, Node("a", "east"), Node("b", "west")),
            Watched.ENDPOINT_SLICE: [slice_fact(thing) for thing in self.server.list("endpointslices")],
            Watched.ENDPOINTS: [],
        }
        for watched, some in given.items():
            self.feeds.replace(kind_of(watched), some, version)
            self.feeds.synced(kind_of(watched))

    async def idle(self) -> None:
        async with asyncio.timeout(10):
            while any(len(one.queue) for one in self.controllers):  # noqa: ASYNC110 - several queues
                await asyncio.sleep(0.005)

    @property
    def endpoints(self) -> list[list[str]]:
        slices = self.server.list("endpointslices")
        return [[end["addresses"][0] for end in one["endpoints"]] for one in slices]


def facts(watched: Watched, *values: Any) -> list[Fact]:
    return [Fact(Key(kind_of(watched), getattr(one, "namespace", ""), one.name), one) for one in values]


def slice_fact(thing: Object) -> Fact:
    one: Any = msgspec.convert(thing, EndpointSlice)
    key = Key(kind_of(Watched.ENDPOINT_SLICE), one.metadata.namespace, one.metadata.name)
    return Fact(key, one, one.metadata.resource_version)


@contextlib.asynccontextmanager
async def running(
    server: Server, services: Any = (), members: Any = (), manager: str = SLICE_MANAGER
) -> AsyncIterator[Run]:
    run = Run(server, manager)
    tasks = [asyncio.create_task(one.run()) for one in run.controllers]
    run.lists(services or [service()], members)
    try:
        await run.idle()
        yield run
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_is_written_before_every_kind_is_listed() -> None:
    run = Run(Server())
    run.tell(Watched.SERVICE, service())
    for watched in KINDS[:-1]:
        run.feeds.synced(kind_of(watched))
    assert [len(one.queue) for one in run.controllers] == [0, 0]


async def test_a_change_of_one_pod_is_one_write_of_each_kind() -> None:
    server = Server()
    async with running(server, members=pods(150)) as run:
        server.writes.clear()
        run.tell(Watched.POD, pod(7, ready=False))
        await run.idle()
        assert sorted(server.writes) == [("update", "endpoints"), ("update", "endpointslices")]
        assert run.writes["endpointslices", "update", "success"] == 1


async def test_a_replica_that_may_not_write_any_more_sends_nothing_and_does_it_when_it_may() -> None:
    server = Server()
    async with running(server, members=pods(3)) as run:
        server.writes.clear()
        run.may = False
        run.tell(Watched.POD, pod(1, ready=False))
        async with asyncio.timeout(10):
            while run.writes["endpointslices", "update", "withheld"] < 2:  # noqa: ASYNC110 - tried again and again
                await asyncio.sleep(0.005)
        assert server.writes == []
        assert run.syncs["endpointslice", "error"] == 0
        run.may = True
        await run.idle()
        assert sorted(server.writes) == [("update", "endpoints"), ("update", "endpointslices")]


async def test_another_start_on_the_same_objects_writes_nothing() -> None:
    server = Server()
    async with running(server, members=pods(150)):
        pass
    server.writes.clear()
    async with running(server, members=pods(150)):
        assert [verb for verb, plural in server.writes if plural == "endpointslices"] == []
    assert server.writes == [("create", "endpoints")]  # it is not listed here, so a conflict tells that it is there


async def test_the_slices_of_a_service_that_went_while_nobody_led_are_deleted() -> None:
    server = Server()
    async with running(server, [service(), service("old")]):
        assert len(server.list("endpointslices")) == 2
    async with running(server, [service()]):
        assert [one["metadata"]["labels"][SERVICE_NAME] for one in server.list("endpointslices")] == ["web"]


async def test_slices_and_endpoints_go_with_the_service() -> None:
    server = Server()
    async with running(server, members=pods(3)) as run:
        run.gone(Watched.SERVICE, "web")
        await run.idle()
        assert server.objects == {}


async def test_pods_that_went_while_the_watch_was_away_are_missed_in_the_list_and_leave() -> None:
    server = Server()
    async with running(server, members=pods(2)) as run:
        run.feeds.replace(kind_of(Watched.POD), facts(Watched.POD, pod(1)), "200")
        await run.idle()
        assert run.endpoints == [["10.1.0.2"]]


async def test_endpoints_made_by_hand_for_a_service_without_selector_stay() -> None:
    server = Server()
    labels = {SERVICE_NAME: "web"}
    server.put(f"{SLICES}/hand", {"metadata": {"name": "hand", "namespace": "shop", "labels": labels}})
    server.put(ENDPOINTS, {"metadata": {"name": "web", "namespace": "shop"}, "subsets": []})
    async with running(server, [service(selector={}), service("out", external_name=True)], pods(2)) as run:
        run.gone(Watched.SERVICE, "web")
        await run.idle()
        assert server.writes == []


async def test_after_a_conflict_it_reads_and_decides_again() -> None:
    server = Server()
    async with running(server, members=pods(2)) as run:
        (one,) = server.list("endpointslices")
        path = f"{SLICES}/{one['metadata']['name']}"
        server.put(path, one | {"metadata": one["metadata"] | {"annotations": {"seen": "yes"}}})
        run.tell(Watched.POD, pod(2))
        await run.idle()
        assert run.endpoints == [["10.1.0.1", "10.1.0.2", "10.1.0.3"]]
        assert server.objects[path]["metadata"]["annotations"]["seen"] == "yes"
        assert run.syncs["endpointslice", "conflict"] == 1


async def test_a_slice_that_somebody_deleted_unheard_is_made_again() -> None:
    server = Server()
    async with running(server, members=pods(2)) as run:
        server.objects.clear()
        run.tell(Watched.POD, pod(2))
        await run.idle()
        assert run.endpoints == [["10.1.0.1", "10.1.0.2", "10.1.0.3"]]
        assert len(server.list("endpoints")) == 1


async def test_endpoints_of_another_controller_are_taken_over() -> None:
    server = Server()
    meta = {"name": "web", "namespace": "shop", "labels": {ENDPOINTS_MANAGED_BY: "endpoint-controller"}}
    server.put(ENDPOINTS, {"metadata": meta, "subsets": []})
    async with running(server, members=pods(1)):
        (one,) = server.list("endpoints")
        assert one["metadata"]["labels"][ENDPOINTS_MANAGED_BY] == "endpoints-controller.deltaplane.dev"
        assert one["subsets"][0]["addresses"][0]["ip"] == "10.1.0.1"


async def test_a_write_that_fails_is_tried_again_and_the_other_services_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    server.failing = [ApiError("API server is not reachable")] * 2
    async with running(server, [service(), service("other")], members=pods(1)) as run:
        assert len(server.list("endpointslices")) == len(server.list("endpoints")) == 2
        assert run.syncs["endpointslice", "error"] + run.syncs["endpoints", "error"] == 2
    assert "cannot sync Service, trying again" in caplog.text
    assert all(one.queue.failing == 0 for one in run.controllers)


async def test_a_write_whose_answer_was_lost_leaves_one_slice() -> None:
    """The write has been done, and nobody here knows: the watch tells it."""
    server = Server()
    async with running(server) as run:
        server.late = [ApiError("connection reset")]
        run.tell(Watched.POD, *pods(101))
        await run.idle()
        run.tell(Watched.ENDPOINT_SLICE)
        run.feeds.update([slice_fact(thing) for thing in server.list("endpointslices")])
        await run.idle()
        assert sorted(map(len, run.endpoints)) == [1, 100]
        assert len({address for some in run.endpoints for address in some}) == 101


async def test_a_namespace_that_is_going_needs_nothing() -> None:
    server = Server()
    gone = ApiError("forbidden", 403, causes=frozenset({"NamespaceTerminating"}))
    server.failing = [gone, gone]
    async with running(server, members=pods(1)) as run:
        assert server.objects == {}
        assert run.writes["endpointslices", "create", "needless"] == 1
        assert run.syncs["endpointslice", "success"] == 1


async def test_a_slice_of_two_leaders_at_once_is_made_one() -> None:
    """The first lost its Lease in mid-write: its slice arrives after the second has made its own."""
    server = Server()
    async with running(server, members=pods(2)) as run:
        (one,) = server.list("endpointslices")
        meta = one["metadata"] | {"name": "web-late", "uid": "late"}
        late = server.put(f"{SLICES}/web-late", one | {"metadata": meta})
        run.feeds.update([slice_fact(late)])
        await run.idle()
        assert run.endpoints == [["10.1.0.1", "10.1.0.2"]]


async def test_a_defect_with_one_service_is_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    async with running(server) as run:
        real, broken = run.known.pods_of, [True]

        def pods_of(one: Any) -> Any:
            if broken:
                broken.clear()
                raise KeyError("defect")
            return real(one)

        monkeypatch.setattr(run.known, "pods_of", pods_of)
        run.tell(Watched.POD, pod(0))
        await run.idle()
        assert run.endpoints == [["10.1.0.1"]]
        assert sum(number for (_, result), number in run.syncs.items() if result == "defect") == 1
    assert "KeyError" in caplog.text


async def test_every_slice_is_marked_as_ours() -> None:
    server = Server()
    async with running(server, members=pods(1)):
        (one,) = server.list("endpointslices")
        assert one["metadata"]["labels"][MANAGED_BY] == SLICE_MANAGER
        assert one["metadata"]["annotations"] == {
            "endpoints.kubernetes.io/last-change-trigger-time": "1970-01-01T00:16:40Z"
        }
