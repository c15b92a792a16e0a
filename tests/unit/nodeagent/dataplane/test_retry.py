"""What the agent says of a kernel that others write to."""

from __future__ import annotations

import pytest

from nodeagent.dataplane.retry import AGAIN, MANY, WITHIN, Trouble

FIGHT = "our tables are changed again and again"


@pytest.mark.parametrize("apart, told", [(WITHIN / MANY, 1), (WITHIN / (MANY - 1) + 1, 0)])
def test_somebody_who_writes_our_tables_again_and_again_is_told_of_once_in_a_while(
    apart: float, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = Trouble()
    for number in range(MANY + 5):
        trouble.repaired(3, number * apart)
    assert [FIGHT in record.message for record in caplog.records].count(True) == told
    assert sum("put right" in record.message for record in caplog.records) == MANY + 5
    for number in range(MANY):
        trouble.repaired(3, AGAIN + 1000 + number * apart)
    assert [FIGHT in record.message for record in caplog.records].count(True) == 2 * told
