"""The corpus against the forwarding entries and against the rendered program, both without a kernel."""

from __future__ import annotations

import pytest

from tests.flows import interpreter, model
from tests.flows.columns import GROUPS
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
    explained = [(group, name) for known in (pending(), deviations()) for group in known for name in known[group]]
    assert [(group, name) for group, name in explained if name not in names or group not in GROUPS] == []


def test_other_outcomes_are_of_flows_that_exist() -> None:
    for scenario in scenarios():
        flows = {flow.place for step in scenario.steps for flow in step.flows}
        for instead in scenario.instead:
            assert {flow.place for flow in instead.flows} <= flows, scenario.id
