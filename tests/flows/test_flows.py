"""The corpus against the forwarding entries and against the rendered program, both without a kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flows import interpreter, model
from tests.flows.corpus import scenarios
from tests.flows.product import Missing
from tests.flows.scenario import Scenario
from tests.flows.verdicts import Difference, deviations, explanation, pending

Column = Callable[[Scenario], list[Difference]]


def _cases(column: str) -> list[object]:
    """Pending ones are strict: one that starts to pass fails until its line in pending.yaml is removed."""
    found: list[object] = []
    for scenario in scenarios():
        if scenario.reason_not_in(column):
            continue
        reason = explanation(column, scenario)
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        found.append(pytest.param(scenario, marks=marks, id=scenario.id))
    return found


@pytest.mark.parametrize("scenario", _cases("model"))
def test_model(scenario: Scenario) -> None:
    _holds(model.run, scenario)


@pytest.mark.parametrize("scenario", _cases("interpreter"))
def test_interpreter(scenario: Scenario) -> None:
    _holds(interpreter.run, scenario)


def _holds(column: Column, scenario: Scenario) -> None:
    try:
        found = column(scenario)
    except Missing as missing:
        pytest.fail(str(missing))
    assert not found, "\n".join(map(str, found))


def test_explanations_name_scenarios_that_exist() -> None:
    names = {name for scenario in scenarios() for name in (scenario.id, scenario.name)}
    explained = {name for reasons in pending().values() for name in reasons} | set(deviations())
    assert explained <= names
