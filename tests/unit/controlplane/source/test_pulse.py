"""A silent API server is asked whether it is alive, and its watches end where it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from controlplane.source.kubernetes import KubernetesSource, resources
from controlplane.source.limits import Limits
from controlplane.source.silence import Silence
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
