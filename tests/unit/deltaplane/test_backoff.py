"""Delays without waiting: the random numbers and the time are given."""

from __future__ import annotations

from random import Random

from deltaplane.backoff import Backoff, Retries


def test_the_delay_doubles_with_each_attempt_up_to_the_limit() -> None:
    backoff = Backoff(1.0, 5.0)
    assert [backoff.delay(attempt) for attempt in range(5)] == [1, 2, 4, 5, 5]


def test_an_attempt_of_any_number_has_a_delay() -> None:
    assert Backoff(0.2, 5.0).delay(10**9) == 5.0


def test_the_delay_is_anything_up_to_the_ceiling() -> None:
    backoff, random = Backoff(1.0, 1.0), Random(7)
    delays = [backoff.delay(0, random.random) for _ in range(1000)]
    assert min(delays) < 0.1
    assert max(delays) > 0.9
    assert all(0.0 <= delay <= 1.0 for delay in delays)


def test_failures_in_a_row_are_forgotten_after_a_quiet_time() -> None:
    retries = Retries(Backoff(1.0, 5.0), quiet=60.0)
    assert [retries.failed(0.0) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert retries.failed(60.0) == 5
    assert retries.failed(120.5) == 1


def test_without_a_quiet_time_only_success_ends_the_row() -> None:
    retries = Retries(Backoff(1.0, 8.0))
    assert [retries.failed(now) for now in (0.0, 1000.0, 2000.0)] == [1, 2, 4]
    assert retries.failures == 3
    retries.succeeded()
    assert retries.failed() == 1
