"""Delays without waiting: the random source and the clock are given."""

from __future__ import annotations

from random import Random

from controlplane.source.backoff import Backoff
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
