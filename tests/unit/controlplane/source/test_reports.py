"""A problem reaches the reporter once, and once more when it is over."""

from __future__ import annotations

from controlplane.source.reports import Reports
from tests.unit.controlplane.source.recorder import Recorder


def test_a_problem_is_said_once_and_taken_back_once() -> None:
    recorder = Recorder()
    reports = Reports(recorder)
    for problems in (["a"], ["a"], [], [], ["1", "2", "3", "4", "5", "6"]):
        reports.record("x", problems)
    reports.record("y", ["b"])
    reports.retain({"y"})
    assert recorder.reports == [("x", "a"), ("x", ""), ("x", "1; 2; 3; 4; and 2 more"), ("y", "b"), ("x", "")]
