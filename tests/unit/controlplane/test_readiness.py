"""A replica whose event loop lags is not ready until it has kept up for a while."""

from __future__ import annotations

from controlplane.readiness import LAG_SECONDS, QUIET_SECONDS, Readiness


def test_a_loop_that_keeps_up_is_ready_from_the_first_look_on() -> None:
    readiness = Readiness()

    assert readiness.ready(due=10.0, now=10.0)
    assert readiness.ready(due=11.0, now=11.0 + LAG_SECONDS)


def test_a_loop_that_lags_more_than_a_second_is_not() -> None:
    assert not Readiness().ready(due=10.0, now=10.1 + LAG_SECONDS)


def test_it_is_ready_again_once_it_has_kept_up_for_a_while() -> None:
    readiness = Readiness()
    readiness.ready(due=10.0, now=15.0)

    assert not readiness.ready(due=16.0, now=16.0)
    assert not readiness.ready(due=15.0 + QUIET_SECONDS - 1, now=15.0 + QUIET_SECONDS - 1)
    assert readiness.ready(due=15.0 + QUIET_SECONDS, now=15.0 + QUIET_SECONDS)
