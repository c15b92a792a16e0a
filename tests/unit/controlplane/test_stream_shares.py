"""What one peer may have of a replica: streams, Hellos, messages and Events."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from controlplane import stream_shares
from controlplane.identity.peer import Identity
from controlplane.stream_shares import HELLOS_AT_ONCE, OF_ONE_NODE, STRANGERS, ReadRate, StreamShares

NODE = Identity("n1's agent", node="n1")


def shares(*nodes: str) -> StreamShares:
    return StreamShares(nodes.__contains__, lambda: len(nodes))


def test_one_address_does_not_take_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_shares, "STREAMS", 100)
    made = shares()
    with ExitStack() as streams:
        while made.full("a") is None:
            streams.enter_context(made.stream("a"))
        assert made.full("b") is None
        refusal = made.full("a")
        assert refusal is not None
        assert (refusal.status, refusal.reason) == ("RESOURCE_EXHAUSTED", "streams")
        assert "50 streams of one address" in refusal.text
    assert made.full("a") is None


def test_a_cluster_of_5000_nodes_behind_one_address_connects_at_once() -> None:
    names = {f"n{number}" for number in range(5000)}
    for known in (names, set[str]()):
        made = StreamShares(known.__contains__, known.__len__)
        with ExitStack() as streams:
            for name in names:
                assert made.full("nat") is None
                assert streams.enter_context(made.stream("nat")).hello(name, 0.0) is None


def test_one_node_has_few_streams_and_others_have_theirs() -> None:
    made = shares()
    with ExitStack() as streams:
        for _ in range(OF_ONE_NODE):
            assert made.crowded(NODE) is None
            streams.enter_context(made.node(NODE))
        refusal = made.crowded(NODE)
        assert refusal is not None
        assert refusal.reason == "node-streams"
        assert made.crowded(Identity("n2's agent", node="n2")) is None
        assert made.crowded(Identity("whoever connects", trusted=True)) is None
    assert made.crowded(NODE) is None


def test_hellos_of_one_node_are_paced_and_another_nodes_are_not() -> None:
    made = shares("n1", "n2")

    def taken(name: str, tries: int, now: float) -> int:
        with made.stream("host") as place:
            return sum(place.hello(name, now) is None for _ in range(tries))

    assert taken("n1", 400, 0.0) == HELLOS_AT_ONCE
    assert taken("n2", 1, 0.0) == 1
    assert taken("n1", 400, 4.0) == 2


def test_names_that_are_no_node_are_few_and_keep_no_node_out() -> None:
    made = shares("n1")
    taken = 0
    with ExitStack() as streams:
        for number in range(STRANGERS + 50):  # as slowly as one address may
            place = streams.enter_context(made.stream("host"))
            taken += place.hello(f"x{number}", float(number)) is None
        assert taken == STRANGERS
        assert streams.enter_context(made.stream("host")).hello("n1", 1000.0) is None
    with made.stream("host") as place:
        assert place.hello("x", 2000.0) is None


def test_hellos_with_new_names_from_one_address_are_paced_and_remember_no_name() -> None:
    made = shares("n1")
    refused = 0
    for number in range(9000):
        with made.stream("host") as place:
            refused += place.hello(f"x{number}", 0.0) is not None
    assert refused == 9000 - stream_shares.STRANGE_HELLOS_AT_ONCE
    assert (len(made._hellos), len(made._strange), len(made._hosts)) == (0, 1, 0)


def test_a_flood_of_messages_is_read_slowly_and_an_agents_acks_are_not() -> None:
    busy, flood, large = ReadRate(), ReadRate(), ReadRate()
    assert all(busy.wait(300, number / 100) == 0 for number in range(10_000))  # 100 Acks a second
    waited = sum(flood.wait(50, 0.0) > 0 for _ in range(8600))
    assert waited == 8600 - stream_shares.MESSAGES_AT_ONCE
    assert sum(large.wait(120_000, 0.0) > 0 for _ in range(93)) == 93 - 8


def test_what_a_node_said_on_an_earlier_stream_counts_and_strangers_of_an_address_are_read_together() -> None:
    made = shares("n1", "n2")

    def rate(name: str, host: str = "host") -> ReadRate:
        with made.stream(host) as place:
            assert place.hello(name, 0.0) is None
            return made.read_rate(place, name)

    assert [rate("n1").wait(400_000, 0.0) > 0 for _ in range(3)] == [False, False, True]
    assert rate("n2").wait(100_000, 0.0) == 0
    assert rate("x1") is rate("x2")
    assert rate("x3", "another") is not rate("x3")


def test_rates_of_reading_are_remembered_for_a_bounded_number_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_shares, "MOST_KEYS", 3)
    made = shares()  # where there are no Nodes, any name is as good as another
    with made.stream("host") as place:
        first = made.read_rate(place, "n1")
        for number in range(2, 5):
            made.read_rate(place, f"n{number}")
        assert len(made._reads) == 3
        assert made.read_rate(place, "n1") is not first


def test_events_are_about_nodes_of_the_cluster_and_few() -> None:
    made = shares("n1", "n2")
    assert [made.tells("stranger", 0.0) for _ in range(3)] == [False] * 3
    assert sum(made.tells("n1", 0.0) for _ in range(4000)) == stream_shares.NOTICES_AT_ONCE
    assert made.tells("n2", 0.0)
