"""A manifest source that runs, and what it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from controlplane.facts import Following
from controlplane.source.manifests import ManifestSource
from deltaplane import model
from deltaplane.model import Kind, ObjectKey
from tests.unit.controlplane.source.recorder import Recorder


def service(name: str, address: str = "10.96.0.1") -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}}}\n"


def address(recorder: Recorder, name: str = "a") -> str:
    found = recorder.state.get(ObjectKey(Kind.SERVICE, "default", name))
    return ".".join(map(str, found.cluster_ips[0])) if isinstance(found, model.Service) else ""


def followed(source: ManifestSource) -> Following:
    (found,) = source.following
    return found


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[ManifestSource, Recorder]]:
    recorder = Recorder()
    source = ManifestSource(directory, recorder, recorder)
    task = asyncio.create_task(source.run())
    try:
        await recorder.until(lambda: len(recorder.synced_kinds) == len(Kind) or task.done())
        yield source, recorder
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
