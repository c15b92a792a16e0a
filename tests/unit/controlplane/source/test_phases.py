"""What a collection's next request is, by what the last one came to; as a table, and as verdicts on errors."""

from __future__ import annotations

import logging

import pytest

from controlplane.source.brake import Doubtful
from controlplane.source.history import Lost
from controlplane.source.phases import FOLLOWS, End, Phase, judge
from controlplane.source.resource import UNREACHED, ApiError, Stalled

LISTS, VERSIONED = (Phase.LISTING, Phase.PAGING), (Phase.WATCHING, Phase.CONFIRMING)


def reachable(start: Phase) -> set[Phase]:
    found, waiting = {start}, [start]
    while waiting:
        new = set(FOLLOWS[waiting.pop()].values()) - found
        found |= new
        waiting += new
    return found


def test_every_phase_is_reached_and_leads_to_a_watch() -> None:
    assert set(FOLLOWS) == reachable(Phase.LISTING) == set(Phase)
    assert all(Phase.WATCHING in reachable(phase) for phase in Phase)
    assert {end for row in FOLLOWS.values() for end in row} == set(End)


@pytest.mark.parametrize("phase", Phase)
def test_a_lost_version_is_never_asked_again(phase: Phase) -> None:
    assert FOLLOWS[phase][End.LOST] is Phase.LISTING


@pytest.mark.parametrize("phase", LISTS)
def test_a_list_without_a_version_is_asked_for_again(phase: Phase) -> None:
    assert FOLLOWS[phase][End.UNVERSIONED] is Phase.LISTING


def test_where_the_state_is_unknown_the_next_request_is_a_list_in_the_form_that_works() -> None:
    assert [FOLLOWS[phase][End.UNKNOWN] for phase in LISTS] == list(LISTS)
    assert [FOLLOWS[phase][End.UNKNOWN] for phase in VERSIONED] == [Phase.LISTING] * 2


@pytest.mark.parametrize("phase", VERSIONED)
def test_after_a_failure_a_version_is_confirmed_before_it_is_watched_from(phase: Phase) -> None:
    assert FOLLOWS[phase][End.FAILED] is Phase.CONFIRMING
    assert FOLLOWS[Phase.CONFIRMING][End.CONFIRMED] is Phase.WATCHING


@pytest.mark.parametrize("phase", LISTS)
def test_a_list_that_failed_is_asked_for_in_the_same_form(phase: Phase) -> None:
    assert FOLLOWS[phase][End.FAILED] is phase


def test_every_verdict_is_an_end_that_its_phase_knows() -> None:
    errors = [ApiError("x", status) for status in (UNREACHED, 400, 401, 403, 404, 410, 422, 429, 500, 504)]
    errors += [ApiError("Too large resource version", 504), Stalled("x"), Doubtful("x"), Lost("x")]
    for phase in Phase:
        assert all(judge(error, phase).end in FOLLOWS[phase] for error in errors)


@pytest.mark.parametrize(
    ("error", "watching", "listing"),
    [
        (ApiError("too old", 410), End.LOST, End.FAILED),
        (ApiError("Timeout: Too large resource version: 9", 504), End.LOST, End.FAILED),
        (ApiError("gateway timeout", 504), End.FAILED, End.FAILED),
        (ApiError("bad version", 400), End.LOST, End.FAILED),
        (Stalled("nothing came"), End.FAILED, End.FAILED),
        (Lost("another history"), End.LOST, End.LOST),
        (Doubtful("it lacks most"), End.LOST, End.LOST),
        (ApiError("refused"), End.FAILED, End.FAILED),
    ],
)
def test_an_error_counts_against_the_version_only_where_there_is_one(
    error: ApiError, watching: End, listing: End
) -> None:
    assert [judge(error, phase).end for phase in VERSIONED] == [watching] * 2
    assert [judge(error, phase).end for phase in LISTS] == [listing] * 2


def test_what_is_to_be_expected_is_no_failure_of_the_collection() -> None:
    expired, silent = judge(ApiError("x", 410), Phase.WATCHING), judge(Stalled("x"), Phase.WATCHING)
    assert (expired.lasting, expired.level) == (silent.lasting, silent.level) == (False, logging.INFO)
    assert judge(Stalled("x"), Phase.PAGING).lasting
    assert judge(Doubtful("x"), Phase.LISTING).level == logging.ERROR


def test_of_watches_that_stay_silent_the_second_leads_to_a_list() -> None:
    assert [judge(Stalled("x"), Phase.WATCHING, silent).end for silent in (1, 2, 3)] == [End.FAILED, End.LOST, End.LOST]
    assert judge(Stalled("x"), Phase.WATCHING, 2).level == logging.WARNING
    assert judge(Stalled("x"), Phase.CONFIRMING, 2).end is End.FAILED
