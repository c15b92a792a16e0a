"""Every fault case runs real processes on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.api import VIP
from tests.faults.world import World, address, world

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.kernel)


@pytest.fixture
def empty() -> Iterator[World]:
    """No program runs yet; three Services of three endpoints are in the folder."""
    with world() as made:
        for number in (1, 2, 3):
            made.put(number, [address(10 * number + one) for one in range(3)])
        yield made


@pytest.fixture
def pair(empty: World) -> World:
    """Two replicas and two agents, each with the whole state."""
    for _ in range(2):
        empty.replica()
    for _ in range(2):
        empty.agent()
    empty.holds()
    return empty


@pytest.fixture
def bare() -> Iterator[World]:
    """One Service of one endpoint is wanted, which an API server is to say; nothing runs."""
    with world() as made:
        made.truth, made.vips = {1: [address(1)]}, {1: VIP}
        yield made
