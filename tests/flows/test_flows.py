"""The corpus against the forwarding entries and against the rendered program, both without a kernel."""

from __future__ import annotations

import pytest

from tests.flows import interpreter, model
from tests.flows.corpus import scenarios
from tests.flows.scenario import Scenario
from tests.flows.tiers import cases, holds
from tests.flows.verdicts import deviations, pending


@pytest.mark.parametrize("scenario", cases("model"))
def test_model(scenario: Scenario) -> None:
    holds(model.run, scenario)


@pytest.mark.parametrize("scenario", cases("interpreter"))
def test_interpreter(scenario: Scenario) -> None:
    holds(interpreter.run, scenario)


def test_explanations_name_scenarios_that_exist() -> None:
    names = {name for scenario in scenarios() for name in (scenario.id, scenario.name)}
    explained = {name for reasons in pending().values() for name in reasons} | set(deviations())
    assert explained <= names
