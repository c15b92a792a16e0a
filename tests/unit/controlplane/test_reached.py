"""Over which replicas streams are spread: those that serve the same cluster, and none while one is away for a while."""

from __future__ import annotations

import pytest

from controlplane.reached import AWAY, Found, Reached
from controlplane.replica_places import Unfound

ME, B, C = "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"


class Others:
    """`answers`: who is at each place that is named, or why no agent can go there; None: this replica itself.
    `unfound`: why some names have no address."""

    def __init__(self, **answers: Found | str | None) -> None:
        self.answers: dict[str, Found | str | None] = dict(answers)
        self.unfound = ""
        self.now = 0.0
        self.own: set[str] = set()

    async def addresses(self) -> list[str]:
        if self.unfound:
            raise Unfound(self.unfound, list(self.answers))
        return list(self.answers)

    async def serves(self, address: str) -> Found | None:
        assert address != ME, "it is known who is there"
        answer = self.answers[address]
        if answer is None:
            self.own.add(address)
        return Found(answer) if isinstance(answer, str) else answer


def spread_over(others: Others) -> Reached:
    return Reached(others, ME, lambda: others.now)


async def test_streams_are_spread_over_those_that_serve_and_this_one() -> None:
    others = Others(**{ME: "", B: "", C: ""})
    reached = spread_over(others)
    assert reached.spread == {ME}
    await reached.look()
    assert reached.spread == {ME, B, C}


async def test_while_one_that_was_there_is_away_nobody_is_sent_anywhere_whether_it_is_named_or_not() -> None:
    for gone in ({B: "", C: "it did not answer in time"}, {B: ""}):  # a crash; a pod that is replaced
        others = Others(**{B: "", C: ""})
        reached = spread_over(others)
        await reached.look()
        others.answers = dict(gone)
        others.now += 10
        await reached.look()
        assert reached.spread == {ME}
        assert reached.away == {C}

        others.answers = {B: "", C: ""}
        await reached.look()
        assert reached.spread == {ME, B, C}
        assert not reached.away


async def test_one_that_stays_away_or_never_came_is_waited_for_a_limited_time() -> None:
    others = Others(**{B: "", C: "refused"})
    reached = spread_over(others)
    await reached.look()
    assert reached.spread == {ME}
    others.now += AWAY
    await reached.look()
    assert reached.spread == {ME, B}
    others.answers[C] = ""
    await reached.look()
    assert reached.spread == {ME, B, C}


async def test_what_answers_at_a_second_address_of_this_replica_is_no_other() -> None:
    others = Others(**{ME: "", B: None, C: ""})
    reached = spread_over(others)
    await reached.look()
    assert reached.spread == {ME, C}


async def test_a_replica_that_the_others_know_by_another_place_sends_nobody_away_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    others = Others(**{B: None, C: ""})
    reached = spread_over(others)
    for _ in range(2):
        await reached.look()
    assert reached.spread == {ME}
    assert caplog.text.count("at another place than --advertise") == 1
    assert f"replicas={B}" in caplog.text


async def test_who_cannot_be_sent_to_is_named_once_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    others = Others(**{B: "it is a replica of another cluster"})
    others.unfound = "--replicas=no.such.invalid:1: no address"
    reached = spread_over(others)
    for _ in range(3):
        await reached.look()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert f"replica={B}" in caplog.text
    assert "another cluster" in caplog.text
    assert "no.such.invalid" in caplog.text


@pytest.mark.parametrize(
    ("b", "c", "better"),
    [
        (Found(agents=300), Found(agents=300), {B, C}),
        (Found(agents=613), Found(agents=10), {C}),  # each of two has 450 as its share: 612.5 are no reason
        (Found(follows=False), Found(agents=10), {C}),
        (Found(follows=False), Found(follows=False), set()),
        ("refused", Found(agents=899), {C}),
        ("refused", "it takes no agents", set()),
        (None, Found(), {C}),
    ],
)
async def test_another_is_better_off_where_it_follows_everything_and_has_room(
    b: Found | str | None, c: Found | str | None, better: set[str]
) -> None:
    others = Others(**{B: b, C: c})
    reached = spread_over(others)
    await reached.look()
    assert reached.better(900, 0) == better


async def test_room_is_of_the_agents_that_there_are_where_nodes_have_no_objects() -> None:
    others = Others(**{B: Found(agents=100), C: Found(agents=100)})
    reached = spread_over(others)
    await reached.look()
    assert reached.better(0, 100) == {B, C}
