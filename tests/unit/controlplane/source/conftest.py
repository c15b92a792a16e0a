"""The small API server, reached directly whatever the environment says of proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.controlplane.source.apiserver import ApiServer


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer().running() as running:
        yield running
