"""Versions that go back: the API server's store was restored, and what was learnt belongs to another history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.source.api import LONGEST_WAIT
from controlplane.store import newer
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


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(watch(bookmark("1010"), hold=True), id="bookmark"),
        pytest.param(watch(modified(service("a", "10.96.0.7", "1010")), hold=True), id="modified"),
        pytest.param(watch(deleted(service("a", version="1010")), hold=True), id="deleted"),
        pytest.param(status(504, TOO_LARGE), id="http status"),
        pytest.param(watch(error(504, "Timeout", TOO_LARGE)), id="error event"),
    ],
)
async def test_a_lower_version_means_another_history_and_is_a_list(
    server: ApiServer, tmp_path: Path, sign: Any
) -> None:
    server.then(
        watch(added(service("a", version="1100")), added(service("b", version="1150")), bookmark("1200", end=True)),
        sign,
        watch(added(service("a", "10.96.0.9", "1005")), bookmark("1010", end=True)),
        watch(added(service("c", "10.96.0.3", "1011")), hold=True),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a", "c"})
        assert run.addresses["a"] == bytes([10, 96, 0, 9])
        assert run.recorder.replaces[1][2] == "1010"
        assert [query.get("resourceVersion") for query in server.queries] == [None, "1200", None, "1010"]
        assert run.reflector.failure == ""


async def test_what_arrived_before_the_version_went_back_is_kept_and_nothing_of_after(
    server: ApiServer, tmp_path: Path
) -> None:
    server.then(
        watch(bookmark("1200", end=True)),
        watch(
            added(service("a", version="1201")),
            added(service("b", version="1000")),
            added(service("c", version="1001")),
            hold=True,
        ),
        page(service("a", version="1201")),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.updates)
        assert run.recorder.names == {"a"}
        await until(lambda: len(server.queries) >= 3)
        assert "resourceVersion" not in server.queries[2]


async def test_a_504_of_a_gateway_is_no_other_history(server: ApiServer, tmp_path: Path) -> None:
    server.then(watch(bookmark("1200", end=True)), status(504, "upstream timed out"), watch(bookmark("1201")))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 4)
        assert [query.get("resourceVersion") for query in server.queries] == [None, "1200", "1200", "1201"]
        assert len(run.recorder.replaces) == 1


async def test_the_same_version_again_is_the_same_history(server: ApiServer, tmp_path: Path) -> None:
    server.then(watch(bookmark("1200", end=True)), watch(bookmark("1200")), watch(bookmark("1201")))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 4)
        assert len(run.recorder.replaces) == 1


async def test_a_version_that_is_no_number_of_64_bits_ends_nothing(server: ApiServer, tmp_path: Path) -> None:
    long = "9" * 5000
    server.then(
        watch(bookmark("5", end=True)),
        watch(added(service("a", version=long)), added(service("b", version="7")), hold=True),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a", "b"})


def test_versions_of_thousands_of_digits_are_not_newer() -> None:
    assert not newer("9" * 5000, "1")
    assert newer("2", "9" * 5000)


def _later(**delta: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(**delta), usegmt=True)


@pytest.mark.parametrize(
    "value", ["86400", "9" * 400, _later(days=1), _later(days=100)], ids=["day", "digits", "date", "far date"]
)
async def test_no_server_is_waited_for_longer_than_30_seconds(server: ApiServer, tmp_path: Path, value: str) -> None:
    server.then(status(503, headers={"Retry-After": value}), page(version="5"))
    server.then(watch(), status(503, headers={"Retry-After": value}))
    async with following(server, tmp_path) as run:
        await until(lambda: len(run.delays) >= 2)
        assert max(run.delays) == LONGEST_WAIT == 30.0


@pytest.mark.parametrize("value", ["-5", "soon", "", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT", "٣"])
async def test_a_retry_after_that_says_nothing_leaves_the_usual_pause(
    server: ApiServer, tmp_path: Path, value: str
) -> None:
    server.then(watch(bookmark("5", end=True)), status(503, headers={"Retry-After": value}), watch(bookmark("6")))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 4)
        assert all(delay <= 5.0 for delay in run.delays)
