"""Numbers, times and names as people read and write them."""

from __future__ import annotations

import pytest

from deltaplane.v1 import objects_pb2
from operatorcli import text


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 s"),
        (7, "7 ns"),
        (1_234, "1.23 µs"),
        (12_340_000, "12.3 ms"),
        (999_900_000, "1000 ms"),
        (3_000_000_000, "3 s"),
    ],
)
def test_short_times_have_three_digits(number: int, shown: str) -> None:
    assert text.nanoseconds(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (59.4, "59s"),
        (60, "1m"),
        (200, "3m20s"),
        (3600, "1h"),
        (7500, "2h5m"),
        (90_000, "1d1h"),
    ],
)
def test_long_times_have_two_parts(number: float, shown: str) -> None:
    assert text.seconds(number) == shown


@pytest.mark.parametrize(
    ("given", "length"),
    [("10s", 10.0), ("1m30s", 90.0), ("500ms", 0.5), ("1.5h", 5400.0), ("7", 7.0), ("0", 0.0), ("2m", 120.0)],
)
def test_times_are_read_as_go_programs_write_them(given: str, length: float) -> None:
    assert text.duration(given) == length


@pytest.mark.parametrize("given", ["", "s", "-1s", "-1", "10 s", "1s1m", "nan", "inf", "ten", "5d"])
def test_what_is_no_time_is_none(given: str) -> None:
    assert text.duration(given) is None


def test_lists_are_cut_and_say_by_how_much() -> None:
    assert text.listed([]) == ""
    assert text.listed(["a"]) == "a"
    assert text.listed(["a", "b", "c"]) == "a, b and c"
    assert text.listed(list("abcdefg"), 5) == "a, b, c, d, e and 2 more"


def test_objects_are_named_as_verbs_take_them() -> None:
    key = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="shop", name="web")

    assert text.key(key) == "svc/shop/web"
    assert text.key(objects_pb2.ObjectKey(kind=objects_pb2.KIND_NODE, name="node-a")) == "node/node-a"
    assert text.key(objects_pb2.ObjectKey(kind=99, name="x")) == "kind-99/x"  # type: ignore[arg-type]
