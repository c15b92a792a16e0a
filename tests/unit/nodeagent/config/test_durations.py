"""Durations are Go's, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.durations import LIMIT, Duration, of, parse


@pytest.mark.parametrize(
    "text, nanoseconds",
    [
        ("0", 0),
        ("0s", 0),
        ("30s", 30 * 10**9),
        ("1h0m0s", 3600 * 10**9),
        ("1h30m", 5400 * 10**9),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("1.s", 10**9),
        ("-1s", -(10**9)),
        ("+2ms", 2_000_000),
        ("3us", 3000),
        ("3µs", 3000),
        ("7ns", 7),
        ("2m3ms", 120_003_000_000),
        ("24h", 86_400 * 10**9),
    ],
)
def test_what_go_reads(text: str, nanoseconds: int) -> None:
    assert parse(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1 s", "1h-2m", "--1s", "1e3s", ".s", "1s ", "9999999h"])
def test_what_go_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse(text)


@pytest.mark.parametrize(
    "duration, text",
    [
        (of(), "0s"),
        (of(hours=24), "24h0m0s"),
        (of(minutes=15), "15m0s"),
        (of(seconds=30), "30s"),
        (of(hours=1, seconds=5), "1h0m5s"),
        (Duration(1_500_000_000), "1.5s"),
        (Duration(250_000_000), "250ms"),
        (Duration(1500), "1.5µs"),
        (Duration(7), "7ns"),
        (Duration(-(10**9)), "-1s"),
        (Duration(60_000_000_001), "1m0.000000001s"),
    ],
)
def test_how_go_writes(duration: Duration, text: str) -> None:
    assert str(duration) == text


@given(st.integers(min_value=1 - LIMIT, max_value=LIMIT - 1))
def test_what_is_written_is_read_back(nanoseconds: int) -> None:
    assert parse(str(Duration(nanoseconds))) == nanoseconds
