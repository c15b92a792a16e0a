"""A reflector that runs against the small API server, for the tests beside this file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import yaml

from controlplane.source.api import connect
from controlplane.source.kubernetes import RESOURCES
from controlplane.source.limits import Limits
from controlplane.source.reflector import Reflector
from deltaplane import model
from deltaplane.model import Kind
from tests.unit.controlplane.source.apiserver import ApiServer
from tests.unit.controlplane.source.recorder import LIMIT, Recorder


def kubeconfig(tmp_path: Path, server: str, token: str = "secret") -> str:
    path = tmp_path / "kubeconfig"
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


class Run:
    """A reflector that is running; `delays` are the pauses it asked for (none is really made)."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.recorder = Recorder()
        self.reflector: Reflector

    async def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        await asyncio.sleep(0)

    @property
    def addresses(self) -> dict[str, bytes]:
        state = self.recorder.state.values()
        return {one.name: one.cluster_ips[0] for one in state if isinstance(one, model.Service)}


@asynccontextmanager
async def following(
    server: ApiServer, tmp_path: Path, limits: Limits | None = None, kind: Kind = Kind.SERVICE
) -> AsyncIterator[Run]:
    run = Run()
    api = await connect(kubeconfig(tmp_path, server.url))
    run.reflector = Reflector(
        kind,
        RESOURCES[kind],
        api,
        run.recorder,
        run.recorder,
        limits=limits,
        random=Random(1),
        sleep=run.sleep,
    )
    task = asyncio.create_task(run.reflector.run())
    try:
        yield run
    finally:
        finished = task.done()
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        await api.close()
        assert not finished, results


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - what is waited for belongs to the server
            await asyncio.sleep(0.005)
