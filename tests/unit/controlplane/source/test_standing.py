"""A failure is said once until it changes, and its time is that of the first."""

from __future__ import annotations

from controlplane.source.standing import Standing


def test_a_lasting_failure_is_said_once_and_a_changed_one_again() -> None:
    standing = Standing(lambda: 0)
    assert [standing.failed(text) for text in ("x", "x", "y")] == [True, False, True]
    assert standing.failure == "y"


def test_its_end_is_said_once() -> None:
    standing = Standing(lambda: 0)
    assert not standing.recovered()
    standing.failed("x")
    assert [standing.recovered(), standing.recovered()] == [True, False]
    assert standing.failure == ""


def test_since_when_it_is_followed_or_is_not() -> None:
    now = [1]
    standing = Standing(lambda: now[0])
    times = [standing.since_unix_nano]
    for now[0], failure in ((2, ""), (3, "x"), (4, "y"), (5, ""), (6, "")):
        standing.failed(failure) if failure else standing.recovered()
        times.append(standing.since_unix_nano)
    assert times == [1, 1, 3, 3, 5, 5]
