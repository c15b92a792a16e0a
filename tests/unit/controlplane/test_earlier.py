"""Objects as they were before changes that the ring no longer has, within a bound."""

from __future__ import annotations

from controlplane.earlier import Earlier
from tests.sessions import objects

FIRST, SECOND = objects.service_key(1), objects.service_key(2)


def test_what_was_there_before_each_change_after_a_revision() -> None:
    earlier = Earlier()
    earlier.clear(1)
    earlier.take(2, [(FIRST, objects.service(1))])
    earlier.take(3, [(SECOND, None), (FIRST, None)])

    assert list(earlier.since(1)) == [(FIRST, objects.service(1)), (SECOND, None), (FIRST, None)]
    assert list(earlier.since(2)) == [(SECOND, None), (FIRST, None)]
    assert (earlier.tail, list(earlier.since(3))) == (1, [])


def test_the_oldest_are_let_go_of_and_the_tail_says_from_where_on_all_is_known() -> None:
    earlier = Earlier(most=10)
    piece = objects.slice_of(1, dict.fromkeys(range(1, 6), 3))  # weighs six
    earlier.take(2, [(piece.key, piece), (FIRST, None)])
    earlier.take(3, [(SECOND, None)])
    assert (earlier.tail, len(list(earlier.since(0)))) == (0, 3)

    earlier.take(4, [(piece.key, piece)])

    assert (earlier.tail, [key for key, _ in earlier.since(earlier.tail)]) == (2, [SECOND, piece.key])


def test_a_change_that_is_too_large_leaves_nothing_and_a_new_history_begins_anew() -> None:
    earlier = Earlier(most=3)
    piece = objects.slice_of(1, dict.fromkeys(range(1, 6), 3))
    earlier.take(7, [(piece.key, piece)])
    assert (earlier.tail, list(earlier.since(7))) == (7, [])

    earlier.clear(1)
    assert earlier.tail == 1
