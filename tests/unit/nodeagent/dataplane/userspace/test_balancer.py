"""Whose turn it is."""

from __future__ import annotations

import random

from nodeagent.dataplane.userspace.balancer import Balancer, Clients
from tests.unit.nodeagent.dataplane.userspace.support import target

A, B, C, D = (target(port) for port in (1, 2, 3, 4))


def made(*targets: tuple[bytes, int], affinity: int = 0, clients: Clients | None = None) -> Balancer:
    balancer = Balancer(suspect_seconds=2.0)
    balancer.set(targets, affinity, clients)  # type: ignore[arg-type]
    return balancer


def test_each_in_turn() -> None:
    balancer = made(A, B, C)
    assert [balancer.choose("c", (), 0.0) for _ in range(7)] == [A, B, C, A, B, C, A]
    assert made().choose("c", (), 0.0) is None


def test_what_was_tried_is_not_asked_again() -> None:
    balancer = made(A, B, C)
    assert balancer.choose("c", {A}, 0.0) == B
    assert balancer.choose("c", {A, B}, 0.0) == C
    assert balancer.choose("c", {A, B, C}, 0.0) is None


def test_a_change_of_the_list_keeps_the_turn() -> None:
    balancer = made(A, C)
    assert balancer.choose("c", (), 0.0) == A
    balancer.set((A, B, C, D), 0, None)
    assert [balancer.choose("c", (), 0.0) for _ in range(4)] == [C, D, A, B]
    balancer.set((A, B), 0, None)
    assert balancer.choose("c", (), 0.0) in (A, B)
    balancer.set((), 0, None)
    balancer.set((B,), 0, None)
    assert balancer.choose("c", (), 0.0) == B


def test_whatever_happens_to_the_list_somebody_of_it_is_chosen_and_all_are_in_the_end() -> None:
    dice, balancer = random.Random(5), Balancer()
    for now in range(500):
        targets = tuple(sorted(dice.sample((A, B, C, D), dice.randint(1, 4))))
        balancer.set(targets, 0, None)
        chosen = {balancer.choose("c", (), float(now)) for _ in targets}
        assert chosen == set(targets)
        if dice.random() < 0.3:
            balancer.failed(dice.choice(targets), float(now))
            balancer = Balancer() if dice.random() < 0.5 else balancer
            balancer._suspects.clear()


def test_one_that_failed_is_asked_last_for_a_while() -> None:
    balancer = made(A, B)
    balancer.failed(A, 0.0)
    assert [balancer.choose("c", (), 1.0) for _ in range(3)] == [B, B, B]
    assert balancer.choose("c", {B}, 1.0) == A  # rather than nobody
    assert {balancer.choose("c", (), 3.0) for _ in range(2)} == {A, B}
    balancer.failed(A, 4.0)
    balancer.worked("c", A, 4.5)
    assert {balancer.choose("c", (), 4.5) for _ in range(2)} == {A, B}


def test_a_client_comes_back_to_its_endpoint_until_it_stays_away_too_long() -> None:
    clients = Clients(10)
    one, other = made(A, B, C, affinity=10, clients=clients), made(B, C, affinity=10, clients=clients)
    one.worked("c", B, 0.0)
    assert {one.choose("c", (), 9.0), other.choose("c", (), 9.0)} == {B}  # every address of the port knows
    assert one.choose("c", {B}, 9.0) != B  # it does not answer: another one
    one.worked("c", B, 9.0)
    assert one.choose("c", (), 18.0) == B  # refreshed
    assert {one.choose("c", (), 19.5) for _ in range(3)} == {A, B, C}
    one.worked("c", B, 20.0)
    one.set((A, C), 10, clients)
    assert one.choose("c", (), 20.0) in (A, C)


def test_of_too_many_clients_the_one_away_for_longest_is_forgotten() -> None:
    clients = Clients(2)
    for name in ("a", "b", "a", "c"):
        clients.remember(name, A, 10.0)
    assert [clients.recall(name, 0.0) for name in ("a", "b", "c")] == [A, None, A]
    assert len(clients) == 2
