"""What the agent says of a kernel that others write to."""

from __future__ import annotations

import pytest

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.outcome import Failed
from nodeagent.sync.retries import AGAIN, MANY, WITHIN, CommitRetries

FIGHT = "our tables are changed again and again"


@pytest.mark.parametrize("apart, told", [(WITHIN / MANY, 1), (WITHIN / (MANY - 1) + 1, 0)])
def test_somebody_who_writes_our_tables_again_and_again_is_told_of_once_in_a_while(
    apart: float, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    retries = CommitRetries()
    for number in range(MANY + 5):
        retries.repaired(3, number * apart)
    assert [FIGHT in record.message for record in caplog.records].count(True) == told
    assert sum("put right" in record.message for record in caplog.records) == MANY + 5
    for number in range(MANY):
        retries.repaired(3, AGAIN + 1000 + number * apart)
    assert [FIGHT in record.message for record in caplog.records].count(True) == 2 * told


def test_an_object_of_which_several_things_fail_is_one_line_as_long_as_they_stay_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In whatever order a commit names them."""
    failed = [Failed(ObjectKey(Kind.SERVICE, "shop", "web"), "INVALID_OBJECT", text) for text in ("port 80", "port 53")]
    retries = CommitRetries()
    for number in range(4):
        retries.accepted(tuple(failed if number % 2 else failed[::-1]), float(number))
    (told,) = caplog.messages
    assert "port 53" in told
    assert "more=1" in told
    retries.accepted((failed[0],), 5.0)
    assert "port 80" in caplog.messages[-1]
    assert "more=0" in caplog.messages[-1]
