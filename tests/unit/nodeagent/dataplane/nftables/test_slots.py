"""Slot lists stay dense, hold what is wanted, and change as little as can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.dataplane.nftables.slots import arrange, changed, split

WIDTH = 8
lists = st.lists(st.integers(0, 40).map(lambda n: n.to_bytes(WIDTH, "big")), unique=True, max_size=20).map(b"".join)


@given(current=lists, wanted=lists)
def test_the_arranged_list_holds_exactly_the_wanted_values(current: bytes, wanted: bytes) -> None:
    assert sorted(split(arrange(current, wanted, WIDTH), WIDTH)) == sorted(split(wanted, WIDTH))


@given(current=lists, wanted=lists)
def test_values_that_stay_keep_their_slot_unless_the_list_shrinks_past_it(current: bytes, wanted: bytes) -> None:
    after = split(arrange(current, wanted, WIDTH), WIDTH)
    for slot, value in enumerate(split(current, WIDTH)):
        if value in after and slot < len(after):
            assert after[slot] == value


@given(current=lists, wanted=lists)
def test_no_more_slots_change_than_values_come_or_go(current: bytes, wanted: bytes) -> None:
    old, new = set(split(current, WIDTH)), set(split(wanted, WIDTH))
    found = changed(current, arrange(current, wanted, WIDTH), WIDTH)
    assert len(found) <= max(len(new - old), len(old - new)) + max(0, len(old - new) - len(new - old))


@given(current=lists, wanted=lists)
def test_the_changes_lead_from_one_list_to_the_other(current: bytes, wanted: bytes) -> None:
    kernel = dict(enumerate(split(current, WIDTH)))
    after = arrange(current, wanted, WIDTH)
    for slot, before, value in changed(current, after, WIDTH):
        assert kernel.pop(slot, None) == before
        if value is not None:
            kernel[slot] = value
    assert kernel == dict(enumerate(split(after, WIDTH)))


def test_removing_the_first_moves_the_last_into_its_slot() -> None:
    a, b, c = (bytes([n] * WIDTH) for n in range(3))
    assert arrange(a + b + c, b + c, WIDTH) == c + b
