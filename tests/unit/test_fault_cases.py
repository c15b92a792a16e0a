"""Every fault case has a test, or a reason why it cannot have one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.__main__ import written
from tests.faults.document import PAGE, TESTS, cases, held, named, names_in

NUMBERS = range(1, 31)


def test_there_are_thirty_cases() -> None:
    assert sorted(cases()) == list(NUMBERS)
    assert {number for number, _ in named()} <= set(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_case_has_a_test_or_a_reason(number: int) -> None:
    assert bool(held(number)) != bool(cases()[number].absent)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_names_in_a_case_exist_and_stand_in_the_page(number: int) -> None:
    page = PAGE.read_text("utf-8")
    for test in held(number):
        file, _, name = test.partition("::")

        assert name in names_in(TESTS / file), test
        assert f"`{test}`" in page, f"{test}: run python -m tests.faults"


def test_a_run_that_lacks_a_case_leaves_the_page_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, file = PAGE.read_text("utf-8"), tmp_path / "junit.xml"
    test = next(iter(held(1)))
    module, _, name = test.partition(".py::")
    file.write_text(f'<testsuite><testcase classname="tests.{module.replace("/", ".")}" name="{name}"/></testsuite>')

    assert written([file]) == 1
    assert PAGE.read_text("utf-8") == before
    assert "no result of case 2, 3, 4" in capsys.readouterr().err
