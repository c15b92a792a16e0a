"""Which tests go to which process: what waits for programs has processes of its own beside what computes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.e2e.standing import modules
from tools import programs

_HERE = Path(__file__).parent
_E2E, _NETWORKS = _HERE / "e2e", [_HERE / name for name in ("kernel", "vm")]


def pytest_configure() -> None:
    """A test that starts a program which a new machine does not get fails here already; slowness fails none."""
    programs.guarded()
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Four processes have what builds networks, two of them an API server each; whoever is done takes of the rest.

    Each of them has one network (and API server) for all of its tests, and clients count what they meet there.
    """
    sharing = modules(item for item in items if item.path.is_relative_to(_E2E))
    for item in items:
        if (group := _group(item, sharing)) is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item, sharing: set[Path]) -> str | None:
    if item.path.is_relative_to(_E2E):
        return "e2e" if item.path in sharing else "e2e-own"
    if any(map(item.path.is_relative_to, _NETWORKS)):
        return "kernel"
    return "packets" if item.get_closest_marker("kernel") else None
