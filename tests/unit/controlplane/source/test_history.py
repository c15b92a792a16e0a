"""Versions that go back (a restored store), that the server has not reached, or that are none: list, and then go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.controlplane.source.apiserver import (
    ApiServer,
    added,
    bookmark,
    deleted,
    error,
    modified,
    page,
    service,
    status,
    watch,
)
from tests.unit.controlplane.source.following import following, until

TOO_LARGE = "Too large resource version: 1200, current: 1010"
OLD, NEW = bytes([10, 96, 0, 1]), bytes([10, 96, 0, 9])
DEEP = b'{"type":"MODIFIED","object":{"metadata":{"name":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}}\n"
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "sign",
    [
        watch(bookmark("1010")),
        watch(modified(service("a", "10.96.0.7", "1010"))),
        watch(deleted(service("a", version="1010"))),
        watch(error(504, "Timeout", TOO_LARGE)),
        status(504, TOO_LARGE),
        status(400, "Invalid value: resourceVersion"),
    ],
    ids=["bookmark", "event", "deletion", "504 in the watch", "504", "400"],
)
async def test_another_history_is_listed_before_anything_of_it_is_believed(
    server: ApiServer, tmp_path: Path, sign: Any
) -> None:
    server.then(
        watch(added(service("a", version="1100")), bookmark("1200", end=True)),
        sign,
        watch(added(service("a", "10.96.0.9", "1005")), bookmark("1020", end=True)),
    )
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 4)
        assert [query.get("resourceVersion") for query in server.queries] == [None, "1200", None, "1020"]
        assert run.addresses == {"a": NEW}
        assert run.recorder.updates == []
        assert [version for _, _, version in run.recorder.replaces] == ["1200", "1020"]
        assert len(run.delays) == 1
        assert run.reflector.failure == ""


async def test_what_came_before_the_lower_version_stays(server: ApiServer, tmp_path: Path) -> None:
    server.then(
        watch(bookmark("1200", end=True)),
        watch(added(service("a", version="1201")), added(service("b", version="9")), hold=True),
    )
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 3)
        assert run.recorder.names == {"a"}
        assert "resourceVersion" not in server.queries[2]


async def test_versions_compare_as_numbers(server: ApiServer, tmp_path: Path) -> None:
    server.then(watch(bookmark("999", end=True)), watch(added(service("a", version="1000"))))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 3)
        assert run.recorder.names == {"a"}
        assert len(run.recorder.replaces) == 1


async def test_the_first_events_of_a_streamed_list_come_in_any_order(server: ApiServer, tmp_path: Path) -> None:
    server.then(watch(added(service("a", version="9")), added(service("b", version="3")), bookmark("12", end=True)))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 2)
        assert run.recorder.names == {"a", "b"}
        assert run.delays == []


async def test_a_gateway_that_times_out_costs_no_list(server: ApiServer, tmp_path: Path) -> None:
    server.then(watch(bookmark("5", end=True)), status(504, "gateway timeout"), watch(bookmark("6"), hold=True))
    async with following(server, tmp_path):
        await until(lambda: len(server.queries) == 3)
        assert server.queries[2]["resourceVersion"] == "5"


@pytest.mark.parametrize(
    "line, text",
    [
        (DEEP, "recursion"),
        (b'{"type":"ERROR","object":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "recursion"),
        (bookmark(DIGITS), "(5000 characters)' is not a number"),
        (added(service("a", version=DIGITS)), "(5000 characters)' is not a number"),
        (bookmark("v7"), "resourceVersion 'v7' is not a number"),
    ],
    ids=["deep", "deep refusal", "bookmark of 5000 digits", "event of 5000 digits", "text"],
)
async def test_a_watch_that_cannot_be_understood_is_named_and_a_paced_list(
    server: ApiServer, tmp_path: Path, line: Any, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.then(watch(bookmark("5", end=True)), watch(line), watch(added(service("b")), bookmark("8", end=True)))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 4)
        assert run.recorder.names == {"b"}
        assert [query.get("resourceVersion") for query in server.queries] == [None, "5", None, "8"]
        assert len(run.delays) == 1
    said = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(said) == 1
    assert text in said[0]
    assert "services" in said[0]
    assert "unforeseen" not in caplog.text


async def test_a_list_that_cannot_be_understood_leaves_what_is_known(server: ApiServer, tmp_path: Path) -> None:
    listed = page(service("a"), version="5")
    server.then(status(422), listed, status(410), status(422), page(version=DIGITS), status(422), page(version="9"))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 8)
        assert [version for _, _, version in run.recorder.replaces] == ["5", "9"]


NO_LEADER = watch(error(500, "InternalError", "no leader"))


@pytest.mark.parametrize("end", [status(503), watch(), NO_LEADER], ids=["refused", "nothing came", "broken"])
async def test_after_a_failure_the_version_is_confirmed_before_a_watch_goes_on_from_it(
    server: ApiServer, tmp_path: Path, end: Any
) -> None:
    """A real API server takes a watch from a version that is yet to come, and says nothing until it has come."""
    server.current = "1010"
    server.then(
        watch(added(service("a", version="1100")), bookmark("1200", end=True)),
        end,
        watch(added(service("a", "10.96.0.9", "1005")), bookmark("1010", end=True), hold=True),
    )
    async with following(server, tmp_path) as run:
        await until(lambda: run.addresses == {"a": NEW})
        assert server.confirmed == 1
        assert [query.get("resourceVersion") for query in server.queries] == [None, "1200", None]


async def test_a_version_that_is_confirmed_is_gone_on_from_and_not_asked_for_again(
    server: ApiServer, tmp_path: Path
) -> None:
    server.current = "1200"
    server.then(watch(bookmark("1200", end=True)), status(503), watch(bookmark("1201")), watch(bookmark("1202")))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 5)
        assert [query.get("resourceVersion") for query in server.queries][1:] == ["1200", "1200", "1201", "1202"]
        assert server.confirmed == 1
        assert len(run.recorder.replaces) == 1
