"""The shop, once for a module, and the command that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.operatorcli.world import Command, Shop, opened


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("shop")) as found:
        yield found


@pytest.fixture
def deltaplane(shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "100")
    where = {"DELTAPLANE_SERVER": shop.address, "DELTAPLANE_INSECURE": "1"}
    return Command(where, capsys, monkeypatch)
