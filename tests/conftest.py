"""Which tests go to which process: three of them, so that what computes does not wait for what waits for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import programs

_HERE = Path(__file__).parent
_NETWORKS = [_HERE / name for name in ("kernel", "vm")]


def pytest_configure() -> None:
    """A test that starts a program which a new machine does not get fails here already."""
    programs.guarded()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What builds networks is one process's, and what needs a real API server another's.

    Each process has one network (and API server) for all of its tests, and clients count what they meet there.
    """
    for item in items:
        if item.path.is_relative_to(_HERE / "e2e"):
            item.add_marker(pytest.mark.xdist_group("e2e"))
        elif item.get_closest_marker("kernel") or any(map(item.path.is_relative_to, _NETWORKS)):
            item.add_marker(pytest.mark.xdist_group("kernel"))
