"""Whose connections give way when there are too many."""

from __future__ import annotations

from nodeagent.web.connections import Connections

ATTACKER, PROBE = ("listener", "a"), ("listener", "b")


def test_the_oldest_of_one_clients_own_gives_way() -> None:
    made = Connections[int](most=100, of_one_client=3)
    assert [made.enter(ATTACKER, number) for number in range(5)] == [None, None, None, (ATTACKER, 0), (ATTACKER, 1)]
    assert made.enter(PROBE, 9) is None
    assert (len(made), made.ended) == (4, 2)


def test_when_all_are_taken_who_has_most_loses_one() -> None:
    made = Connections[int](most=6, of_one_client=4)
    for number in range(4):
        made.enter(ATTACKER, number)
    assert [made.enter((PROBE[0], f"p{number}"), number) for number in range(4)] == [
        None,
        None,
        (ATTACKER, 0),
        (ATTACKER, 1),
    ]
    assert len(made) == 6


def test_one_that_gave_way_and_then_ends_counts_once_and_nothing_is_kept() -> None:
    made = Connections[int](most=100, of_one_client=1)
    made.enter(ATTACKER, 1)
    assert made.enter(ATTACKER, 2) == (ATTACKER, 1)
    for number in (1, 2, 2):
        made.leave(ATTACKER, number)
    assert (len(made), made._held) == (0, {})
