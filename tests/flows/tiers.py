"""Scenarios as pytest parameters, and a column's verdict as an assertion. Called by the test modules beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.flows.corpus import scenarios
from tests.flows.dialects import heard
from tests.flows.network import Network
from tests.flows.product import Missing
from tests.flows.scenario import Scenario
from tests.flows.verdicts import Difference, explanation


def cases(column: str) -> list[object]:
    """Pending ones are strict: one that starts to pass fails until its line in pending.yaml is removed."""
    found: list[object] = []
    for scenario in scenarios():
        if scenario.reason_not_in(column):
            continue
        reason = explanation(column, scenario)
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        found.append(pytest.param(heard(scenario, column)[0], marks=marks, id=scenario.id))
    return found


def holds(column: Callable[[Scenario], list[Difference]], scenario: Scenario) -> None:
    """Fails with every difference."""
    try:
        found = column(scenario)
    except Missing as missing:
        pytest.fail(str(missing))
    assert not found, "\n".join(map(str, found))


def opened() -> Iterator[Network]:
    """For fixtures: a network, deleted at the end; the test is skipped where there can be none."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    made = Network()
    yield made
    made.close()
