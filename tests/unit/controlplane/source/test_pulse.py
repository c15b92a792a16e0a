"""A silent API server is asked whether it is alive, and its watches end where it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from controlplane.aside import AFTER, Aside
from controlplane.source.kubernetes import KubernetesSource, resources
from controlplane.source.limits import Limits
from controlplane.source.pulse import Pulse
from controlplane.source.resource import ApiError
from controlplane.source.silence import Silence
from deltaplane.model import Kind
from tests.unit.controlplane.inspection.replica import Asked
from tests.unit.controlplane.source.apiserver import ApiServer, bookmark, status, watch
from tests.unit.controlplane.source.following import kubeconfig, until
from tests.unit.controlplane.source.recorder import Recorder

SHORT = Limits(silence=0.1, answer=1.0)
ASKED = ("probe", "services")


def test_it_is_asked_after_silence_and_again_after_as_much() -> None:
    silence = Silence(30.0)
    assert silence.wait(100.0) == 30.0  # no watch
    silence.opened(100.0)
    assert [silence.wait(110.0), silence.wait(131.0)] == [20.0, 0.0]
    silence.opened(131.0)
    assert silence.wait(131.0) == 0.0  # a request beside others is no sign of life
    silence.heard(131.0)
    assert [silence.wait(131.0), silence.wait(161.0)] == [30.0, 0.0]


class World:
    """A source's pulse on a clock that only waiting moves. `asked`: when the server was, in seconds from the start."""

    def __init__(self, *, failure: ApiError | None = None) -> None:
        self.now, self.asked = 0.0, list[float]()
        self._failure = failure
        self._news: list[float] = []  # when a watch brings something
        self._end = 0.0
        api: Any = self
        self.pulse = Pulse(api, resources()[Kind.SERVICE], Limits(), sleep=self._sleep, clock=lambda: self.now)

    async def fetch(self, *_: object) -> bytes:
        self.asked.append(self.now)
        await asyncio.sleep(0)  # so that others run, as while a request is on its way
        if self._failure is not None:
            raise self._failure
        return b"{}"

    async def _sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self._news and self._news[0] <= until:
            self.now = self._news.pop(0)
            self.pulse.heard()
        self.now = until
        for _ in range(5):  # turns of the loop, in which what has ended ends
            await asyncio.sleep(0)
        if self.now >= self._end:
            raise asyncio.CancelledError

    async def run(self, seconds: float, news: Iterable[float] = ()) -> None:
        """So long, with something from a watch at these times."""
        self._news, self._end = sorted(news), seconds
        with suppress(asyncio.CancelledError):
            await self.pulse.run()


async def test_a_busy_server_is_never_asked() -> None:
    world = World()
    async with world.pulse.watching():
        await world.run(3600, news=(at * 29.9 for at in range(1, 130)))

    assert world.asked == []


async def test_after_the_last_event_it_is_asked_once_in_each_silent_period() -> None:
    world = World()
    async with world.pulse.watching():
        await world.run(200, news=[10.0, 30.0, 59.0, 130.0])

    assert world.asked == [89.0, 119.0, 160.0, 190.0]


async def test_it_is_asked_once_before_its_watches_end_and_not_again_while_there_is_none() -> None:
    world = World(failure=ApiError("no answer"))
    running = asyncio.create_task(world.run(300))
    with pytest.raises(ApiError, match="all watches were silent, and: no answer"):
        async with world.pulse.watching(), world.pulse.watching():
            await asyncio.Event().wait()
    await running

    assert world.asked == [30.0]


async def test_one_time_out_is_for_the_answer_and_for_the_credentials_before_it() -> None:
    """aiohttp has none of its own."""
    limits: list[aiohttp.ClientTimeout] = []

    class Stuck:
        server = "https://192.0.2.1"

        async def fetch(self, _resource: object, _query: object, limit: aiohttp.ClientTimeout, _verb: str) -> bytes:
            limits.append(limit)
            await asyncio.Event().wait()
            return b""

    api: Any = Stuck()
    pulse = Pulse(api, resources()[Kind.SERVICE], Limits(answer=0.01))

    assert await pulse._failure() == "API server https://192.0.2.1 did not answer within 0.01 s"
    assert limits == [aiohttp.ClientTimeout()]
    assert limits[0].total is None


class Frozen(ApiServer):
    """Answers nothing more while `stopped`, and closes nothing. `refusing`: it cuts off answers to lists of one."""

    stopped = refusing = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refusing and request.query.get("limit") == "1":
            return await self._cut_off(request)
        if self.stopped:
            await self._stop.wait()
        return await super().handle(request)

    async def _cut_off(self, request: web.Request) -> web.StreamResponse:
        """Only its head comes."""
        response = web.StreamResponse(headers={"Content-Length": "99"})
        await response.prepare(request)
        assert request.transport is not None
        request.transport.close()
        return response


@asynccontextmanager
async def followed(tmp_path: Path) -> AsyncIterator[tuple[Frozen, KubernetesSource]]:
    async with Frozen().running() as server:
        assert isinstance(server, Frozen)
        server.then(status(404), *[watch(bookmark("5", end=True), hold=True)] * 12)
        recorder = Recorder()
        source = KubernetesSource(kubeconfig(tmp_path, server.url), recorder, recorder, limits=SHORT)
        task = asyncio.create_task(source.run())
        try:
            await until(lambda: set(recorder.synced_kinds) == set(resources()))
            yield server, source
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_answers_keeps_its_watches(tmp_path: Path) -> None:
    async with followed(tmp_path) as (server, source):
        await until(lambda: source.requests[*ASKED, "200"] >= 3)
        assert source.failures == {}
        assert server.confirmed >= 3


async def test_the_watches_of_a_frozen_server_end_at_once(tmp_path: Path) -> None:
    async with followed(tmp_path) as (server, source):
        await until(lambda: source.requests[*ASKED, "200"])
        server.stopped = True
        await until(lambda: len(source.failures) == 4)  # long before `Limits.idle`
        assert source.requests[*ASKED, "error"] >= 1
        assert all("silent" in failure for failure in source.failures.values())


async def test_a_replica_with_a_frozen_server_leaves_its_agents_to_others_that_follow(tmp_path: Path) -> None:
    """Its failures stay while it dials again; where no replica follows, it keeps its agents."""
    replica, beside, alone = Asked(), Aside(), Aside()
    async with followed(tmp_path) as (server, source):
        server.stopped = True
        await until(lambda: len(source.failures) == 4)
        for second in range(int(AFTER) + 1):
            replica.sources[:] = source.following
            unfollowed = replica.here.unfollowed()
            assert unfollowed.count(", ") >= 3, unfollowed
            beside.look(second, unfollowed, ["192.0.2.11:50051"])
            alone.look(second, unfollowed, [])
            if second == 5:
                await until(lambda: source.requests[*ASKED, "error"] >= 2)
        assert "did not answer within 1 s" in beside.reason
        assert beside.reason.endswith("other replicas do")
        assert alone.reason == ""


async def test_watches_that_end_are_told_once_and_their_server_is_asked_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with followed(tmp_path) as (server, source):
        await until(lambda: source.requests[*ASKED, "200"])
        server.refusing = True
        await until(lambda: len(source.failures) == 4)
        asked = source.requests[*ASKED, "200"]
        await asyncio.sleep(2 * SHORT.silence)
        assert source.requests[*ASKED, "200"] == asked  # nobody watches any more
    (told,) = (record.getMessage() for record in caplog.records if "ending them" in record.getMessage())
    assert "watches=4" in told
