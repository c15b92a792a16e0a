"""What must not take the cluster's Services away, or end the source: an empty answer, and a fault of our own (S7)."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from controlplane.facts import Fact
from controlplane.source.brake import Brake
from controlplane.source.limits import Limits
from controlplane.source.translate import translate
from deltaplane.model import Kind
from tests.unit.controlplane.source.apiserver import ApiServer, added, bookmark, gone, page, service, status, watch
from tests.unit.controlplane.source.following import following, until
from tests.unit.controlplane.source.recorder import Recorder

MANY = [service(f"s{number}") for number in range(20)]
FULL = watch(*map(added, MANY), bookmark("5", end=True))
EMPTY = watch(bookmark("6", end=True))


@pytest.mark.parametrize(
    "known, missing, held",
    [
        (1000, 1000, True),
        (10, 10, True),
        (20, 11, True),
        (20, 10, False),
        (9, 9, False),
        (100, 9, False),
        (0, 0, False),
    ],
)
def test_most_of_many_is_held(known: int, missing: int, held: bool) -> None:
    assert Brake(30.0).holds(known, missing, 0.0) is held


def test_three_lists_over_the_whole_time_must_agree() -> None:
    brake = Brake(30.0)
    assert [brake.holds(100, 100, now) for now in (0.0, 1.0, 2.0, 29.0, 30.0)] == [True, True, True, True, False]

    brake = Brake(30.0)
    assert [brake.holds(100, 100, now) for now in (0.0, 60.0, 61.0)] == [True, True, False]


def test_a_good_list_begins_the_time_anew() -> None:
    brake = Brake(30.0)
    lists = ((90, 0.0), (90, 20.0), (0, 25.0), (90, 31.0), (90, 40.0))
    assert [brake.holds(100, lost, now) for lost, now in lists] == [True, True, False, True, True]


@pytest.mark.parametrize("pages", [False, True])
async def test_410_and_then_an_empty_list_takes_nothing_away(
    server: ApiServer, tmp_path: Path, pages: bool, caplog: pytest.LogCaptureFixture
) -> None:
    empty = (status(400, "BadRequest"), page(version="6")) if pages else (EMPTY,)
    server.then(FULL, watch(gone()), *empty, *empty)
    async with following(server, tmp_path) as run:
        server.then(watch(*map(added, MANY[1:]), bookmark("7", end=True), hold=True))
        await run.recorder.until(lambda: len(run.recorder.replaces) == 2)
        assert len(run.addresses) == 19
        assert run.delays.count(10.0) == 2
        assert run.reflector.failure == ""
    held = "safety brake: list held resource=services reason="
    assert (
        caplog.text.count(f'{held}"it lacks 20 of 20 objects; what is known stays until lists agree for 30.0 s"') == 1
    )


async def test_an_empty_list_the_server_insists_on_is_the_truth(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.then(FULL, watch(gone()), EMPTY, EMPTY, EMPTY)
    async with following(server, tmp_path, Limits(doubt=0.0)) as run:
        await run.recorder.until(lambda: len(run.recorder.replaces) == 2)
        assert run.addresses == {}
    assert "lists agree: what they lack is gone resource=services objects=20" in caplog.text


async def test_an_object_that_makes_us_fail_is_reported_and_the_others_are_served(
    server: ApiServer, tmp_path: Path
) -> None:
    def faulty(kind: Kind, thing: object, event_unix_nano: int) -> object:
        found = translate(kind, thing, event_unix_nano)  # type: ignore[arg-type]
        if found.fact.key.name == "s1":
            raise ZeroDivisionError("ours")
        return found

    server.then(watch(*map(added, MANY), bookmark("5", end=True), hold=True))
    with patch("controlplane.source.decode.translate", faulty):
        async with following(server, tmp_path) as run:
            await run.recorder.until(lambda: len(run.addresses) == 19)
            ((where, reason),) = run.recorder.problems.items()
    assert where.endswith("s1")
    assert reason == "unforeseen: ZeroDivisionError: ours"


async def test_an_object_for_which_there_was_no_memory_is_listed_again(server: ApiServer, tmp_path: Path) -> None:
    full = [MemoryError()]

    def narrow(kind: Kind, thing: object, event_unix_nano: int) -> object:
        found = translate(kind, thing, event_unix_nano)  # type: ignore[arg-type]
        if found.fact.key.name == "s1" and full:
            raise full.pop()
        return found

    server.then(*[watch(*map(added, MANY), bookmark("5", end=True), hold=True)] * 2)
    with patch("controlplane.source.decode.translate", narrow):
        async with following(server, tmp_path) as run:
            await run.recorder.until(lambda: len(run.addresses) == 20)
            assert not run.recorder.problems


async def test_a_fault_of_our_own_is_one_clear_line_and_a_relist(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    update, faults = Recorder.update, iter((ZeroDivisionError("ours"),))

    def faulty(self: Recorder, facts: list[Fact]) -> None:
        for fault in faults:
            raise fault
        update(self, facts)

    new = added(service("new", version="6"))
    server.then(FULL, watch(new), watch(new, bookmark("9", end=True), hold=True))
    with patch.object(Recorder, "update", faulty):
        async with following(server, tmp_path, Limits(doubt=0.0)) as run:
            await until(lambda: len(server.queries) >= 3)
            assert "sendInitialEvents" in server.queries[2]
            assert run.delays
    line = 'unforeseen, listing again resource=services error="ZeroDivisionError: ours" at='
    assert caplog.text.count(line) == 1
    assert "test_brake.py:" in caplog.text
