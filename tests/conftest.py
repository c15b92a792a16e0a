"""What holds for all tests: which programs they may start, how long they may take, which process has which."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.groups import Scheduling, longest_first
from tools import programs


def pytest_configure() -> None:
    """A test that starts a program which a new machine does not get fails here already; slowness fails none."""
    programs.guarded()
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Four processes have what builds networks, two of them an API server each; whoever is done takes of the rest."""
    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    yield  # the order is a random one
    if hasattr(config, "workerinput"):
        longest_first(items)
