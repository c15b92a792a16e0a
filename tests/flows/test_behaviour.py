"""The page of behaviour: every row is held by something, and what is said to hold it exists."""

from __future__ import annotations

from tests.flows import document
from tests.flows.holders import ROOT


def test_every_row_that_applies_is_held() -> None:
    assert [row.id for row in document.unheld() if not row.open] == []


def test_scenarios_hold_rows_that_exist() -> None:
    known = {row.id for rows in document.sections().values() for row in rows}
    assert set(document.held_by_scenarios()) <= known


def test_named_tests_exist() -> None:
    named = [test for rows in document.sections().values() for row in rows for test in row.tests]
    for test in named:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / path).read_text("utf-8"), test
