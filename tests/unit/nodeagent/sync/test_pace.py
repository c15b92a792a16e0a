"""After a long commit changes gather, as long as they keep coming."""

from __future__ import annotations

import pytest

from nodeagent.sync.pace import REST, Pace


def test_the_first_change_does_not_wait() -> None:
    assert Pace(1.0).rest(0.0) == 0.0


def test_after_a_commit_changes_gather_for_some_times_as_long() -> None:
    pace = Pace(1.0)
    pace.committed(10.0, 10.05)

    assert pace.rest(10.05) == pytest.approx(REST * 0.05)
    assert pace.rest(10.10) == pytest.approx(REST * 0.05 - 0.05)
    assert pace.rest(10.15 + 1e-9) == 0.0  # what comes alone finds nobody resting


def test_they_gather_no_longer_than_is_allowed() -> None:
    pace = Pace(0.2)
    pace.committed(10.0, 15.0)
    assert pace.rest(15.0) == pytest.approx(0.2)
