"""docs/behaviour.md counts flows: one that differs for a listed reason does not hide the others of its scenario."""

from __future__ import annotations

from pathlib import Path

from tests.flows import apart, conformance, document
from tests.flows.conformance import EXPLAINED, HOLDS, Result
from tests.flows.corpus import scenarios
from tests.flows.dialects import heard

CLUSTER_IP = next(scenario for scenario in scenarios() if scenario.id == "cluster-ip-general-v4")


def flows() -> int:
    return sum(len(step.flows) for step in CLUSTER_IP.steps)


def test_flows_held_to_another_outcome_are_counted_apart() -> None:
    held, reasons = heard(CLUSTER_IP, "userspace")
    changed = sum(
        flow != other
        for step, usual in zip(held.steps, CLUSTER_IP.steps, strict=True)
        for flow, other in zip(step.flows, usual.flows, strict=True)
    )
    result = conformance.counted(Result(EXPLAINED, reasons), CLUSTER_IP, held)

    assert (result.flows, result.otherwise) == (flows(), changed)
    assert 0 < changed < flows()


def test_so_are_flows_that_differ_for_a_reason_in_the_list_of_deviations() -> None:
    notes = ("the reason", "step 1: a: expected x, saw y", "step 2: b: expected x, saw y", "operations: 9")
    result = conformance.counted(Result(EXPLAINED, notes), CLUSTER_IP, CLUSTER_IP)

    assert result.otherwise == 2


def test_a_column_that_is_held_to_the_scenario_itself_has_none_apart() -> None:
    result = conformance.counted(Result(HOLDS), CLUSTER_IP, CLUSTER_IP)

    assert (result.flows, result.otherwise) == (flows(), 0)


def test_the_page_says_both_numbers() -> None:
    found = {
        (CLUSTER_IP.id, "model"): Result(HOLDS, (), 30, 0),
        (CLUSTER_IP.id, "userspace"): Result(EXPLAINED, ("a reason",), 30, 12),
        (CLUSTER_IP.id, "ipvs"): Result(conformance.FAILS, ("a difference",), 30, 0),
    }
    cells = [document._result([CLUSTER_IP], column, found) for column in ("model", "userspace", "ipvs")]

    assert cells == ["30", "18 + 12", "0, 1 scenarios fail"]


def test_results_of_a_column_in_another_process_come_back_whole(tmp_path: Path) -> None:
    found = {(CLUSTER_IP.id, "userspace"): Result(EXPLAINED, ("a reason",), 30, 12)}

    apart.save(found, tmp_path / "results.json")

    assert apart.load(tmp_path / "results.json") == found
