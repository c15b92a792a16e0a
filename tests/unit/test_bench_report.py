"""What the tables of docs/performance.md are made of."""

from __future__ import annotations

import pytest

from bench.report import quantile


@pytest.mark.parametrize(("number", "p99"), [(1, 1), (2, 2), (20, 20), (99, 99), (100, 99), (101, 100), (200, 198)])
def test_the_p99_of_numbers_from_1_up(number: int, p99: int) -> None:
    assert quantile(range(number, 0, -1), 0.99) == p99


@pytest.mark.parametrize("share", [number / 100 for number in range(1, 101)])
def test_a_hundredth_of_a_hundred_values_is_one_of_them(share: float) -> None:
    """Where the share falls on a whole number; 0.07 * 100 and others are a little more than that."""
    assert quantile(range(1, 101), share) == round(share * 100)


def test_the_ends_are_the_least_and_the_greatest() -> None:
    assert (quantile([3.0, 1.0, 2.0], 0.0), quantile([3.0, 1.0, 2.0], 1.0)) == (1.0, 3.0)
    with pytest.raises(LookupError):
        quantile([], 0.99)
