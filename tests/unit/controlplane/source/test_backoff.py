"""Delays without waiting: the random source and the clock are given."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from controlplane.source.backoff import Backoff, patience
from controlplane.source.reports import Reports
from tests.unit.controlplane.source.recorder import Recorder


class _Highest(Random):
    def uniform(self, a: float, b: float) -> float:
        assert a == 0
        return b


def test_the_ceiling_doubles_up_to_the_cap_and_is_forgotten_after_a_quiet_time() -> None:
    now = [0.0]
    backoff = Backoff(base=1, cap=5, reset_after=60, random=_Highest(), clock=lambda: now[0])
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    now[0] = 60.0
    assert backoff.next() == 5
    now[0] = 120.5
    assert backoff.next() == 1


def test_the_delay_is_anything_up_to_the_ceiling() -> None:
    backoff = Backoff(base=1, cap=1, random=Random(7), clock=lambda: 0.0)
    delays = [backoff.next() for _ in range(1000)]
    assert min(delays) < 0.1
    assert max(delays) > 0.9


def test_a_problem_is_said_once_and_taken_back_once() -> None:
    recorder = Recorder()
    reports = Reports(recorder)
    for problems in (["a"], ["a"], [], [], ["1", "2", "3", "4", "5", "6"]):
        reports.record("x", problems)
    reports.record("y", ["b"])
    reports.retain({"y"})
    assert recorder.reports == [("x", "a"), ("x", ""), ("x", "1; 2; 3; 4; and 2 more"), ("y", "b"), ("x", "")]


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "header, details, seconds",
    [
        ("7", None, 7.0),
        ("7", 9, 7.0),
        ("", 9, 9.0),
        ("soon", 9, 9.0),
        ("", None, 0.0),
        ("86400", None, 30.0),
        ("9" * 5000, None, 30.0),
        ("", 86400, 30.0),
        ("", 10**400, 30.0),
        ("", -5, 0.0),
        ("-5", None, 0.0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", None, 10.0),
        ("Fri, 02 Jan 2026 03:04:15 -0000", None, 10.0),
        ("Sat, 03 Jan 2026 03:04:15 GMT", None, 30.0),
        ("Thu, 01 Jan 2026 03:04:15 GMT", 9, 0.0),
        ("Fri, 02 Jan 99999999999 03:04:15 GMT", None, 0.0),
        ("\u0667", None, 0.0),
    ],
)
def test_a_server_is_given_the_time_it_asks_for_up_to_a_limit(header: str, details: int | None, seconds: float) -> None:
    assert patience(header, details, NOW) == seconds
