"""Source ranges by what they cover: who is admitted, and whether a change of text takes anybody away."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.conntrack.clients import clients, narrowed
from tests.unit.nodeagent.conntrack.cases import packed

HALVES = ("203.0.113.0/25", "203.0.113.128/25")
WHOLE = ("203.0.113.0/24",)
HOSTS, BITS = st.integers(0, 63), st.integers(0, 5)
NETWORKS = st.builds(lambda host, bits: f"10.0.0.{host & -(1 << bits)}/{32 - bits}", HOSTS, BITS)


@pytest.mark.parametrize(
    ("before", "after", "fewer"),
    [
        ((), WHOLE, True),
        (WHOLE, (), False),
        (WHOLE, HALVES, False),
        (HALVES, WHOLE, False),
        (WHOLE, HALVES[:1], True),
        (HALVES[:1], WHOLE, False),
        (HALVES[:1], HALVES[1:], True),
        ((*WHOLE, "203.0.113.7/32"), WHOLE, False),
        ((*WHOLE, "198.51.100.7/32"), WHOLE, True),
        ((), ("0.0.0.0/1", "128.0.0.0/1"), False),
        (("0.0.0.0/0",), ("0.0.0.0/1", "128.0.0.0/1"), False),
        ((), ("0.0.0.0/1", "128.0.0.0/2"), True),
        ((), ("2001:db8::/32",), True),
        (("2001:db8::/33", "2001:db8:8000::/33"), ("2001:db8::/32",), False),
        (("2001:db8::/32",), ("2001:db8::/33",), True),
    ],
)
def test_ranges_narrow_where_a_client_loses_its_place(
    before: tuple[str, ...], after: tuple[str, ...], fewer: bool
) -> None:
    assert narrowed(before, after) is fewer


def test_the_first_and_the_last_address_of_a_range_are_in_it_and_their_neighbours_are_not() -> None:
    found = clients(("203.0.113.16/28", "198.51.100.7/32"))
    inside = ["203.0.113.16", "203.0.113.31", "198.51.100.7"]
    outside = ["203.0.113.15", "203.0.113.32", "198.51.100.6", "198.51.100.8", "0.0.0.0", "255.255.255.255"]
    assert [found.has(packed(text)) for text in inside + outside] == [True] * 3 + [False] * 6


@given(st.lists(NETWORKS, min_size=1, max_size=5), st.lists(NETWORKS, min_size=1, max_size=5))
def test_any_ranges_are_judged_as_their_addresses_one_by_one(before: list[str], after: list[str]) -> None:
    then, now = (set(chain.from_iterable(map(ip_network, each))) for each in (before, after))
    assert narrowed(tuple(before), tuple(after)) is bool(then - now)
    everybody = [ip_address("10.0.0.0") + n for n in range(70)]
    assert [clients(tuple(after)).has(each.packed) for each in everybody] == [each in now for each in everybody]
