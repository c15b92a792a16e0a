"""Shares of a pool and of time that one client cannot take from others."""

from __future__ import annotations

from deltaplane.shares import Allowance, Rates, Shares


def filled(shares: Shares[str], client: str, pool: int) -> int:
    """Enters as often as the client may; how many it then holds."""
    while shares.fits(client, pool - len(shares)):
        shares.enter(client)
    return shares.held(client)


def test_one_client_gets_half_of_the_pool_and_whoever_comes_new_finds_room() -> None:
    shares = Shares[str]()
    assert [filled(shares, client, 128) for client in "abc"] == [64, 32, 16]
    assert filled(shares, "d", 128) > 0


def test_what_one_gives_back_another_gets_and_nothing_is_kept_of_who_holds_none() -> None:
    shares = Shares[str]()
    held = filled(shares, "a", 10)
    assert not shares.fits("a", 10 - len(shares))
    shares.leave("a")
    assert shares.fits("a", 10 - len(shares))
    for _ in range(held - 1):
        shares.leave("a")
    assert (len(shares), shares.held("a"), dict(shares._held)) == (0, 0, {})


def test_an_allowance_is_so_many_at_once_and_then_so_many_a_second() -> None:
    allowance = Allowance(2.0, 3.0)
    assert [allowance.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [allowance.take(10.5) for _ in range(2)] == [True, False]
    assert sum(allowance.take(1000.0) for _ in range(9)) == 3


def test_what_is_owed_is_a_time_to_wait() -> None:
    allowance = Allowance(10.0, 5.0)
    assert allowance.owe(0.0, 5) == 0.0
    assert allowance.owe(0.0, 20) == 2.0
    assert allowance.owe(2.0, 1) == 0.1


def test_rates_are_of_each_client_and_few_clients_are_remembered() -> None:
    rates = Rates[int](1.0, 2.0, most=3)
    assert [rates.take(1, 0.0) for _ in range(3)] == [True, True, False]
    assert rates.take(2, 0.0)
    for client in range(1000):
        rates.take(client, 0.0)
    assert len(rates) == 3
