"""Which tests go to which process: two of them, so that what computes does not wait for what waits for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import programs

_LAB = [Path(__file__).parent / name for name in ("kernel", "e2e", "vm")]


def pytest_configure() -> None:
    """A test that starts a program which a new machine does not get fails here already."""
    programs.guarded()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that builds networks is one process's: there is one network for all, and clients count what they meet."""
    for item in items:
        if any(map(item.path.is_relative_to, _LAB)) or item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.xdist_group("lab"))
