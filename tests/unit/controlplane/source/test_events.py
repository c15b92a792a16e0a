"""Notices become Events, once each; what cannot be written is said and forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.notices import Notice, fallback
from controlplane.source.api import connect
from controlplane.source.events import TRIES, Events, manifest
from deltaplane.v1 import delta_pb2 as pb
from tests.unit.controlplane.source.apiserver import ApiServer, status
from tests.unit.controlplane.source.following import kubeconfig, until

NOTICE = Notice("node-1", "0123456789abcdef", "ProxyModeFallback", "proxy mode ipvs cannot work here")


@asynccontextmanager
async def writing(server: ApiServer, folder: Path) -> AsyncIterator[tuple[Events, list[float]]]:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)
        await asyncio.sleep(0)

    api = await connect(kubeconfig(folder, server.url))
    events = Events(sleep)
    task = asyncio.create_task(events.run(api))
    try:
        yield events, delays
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await api.close()


def hello(asked: str, mode: str) -> pb.Hello:
    return pb.Hello(
        node_name="node-1", agent_instance="a", proxy_mode=mode, proxy_mode_asked=asked, proxy_mode_reason="no ip_vs"
    )


def test_an_agent_in_another_mode_than_asked_for_is_news() -> None:
    text = "proxy mode ipvs cannot work here, mode nftables is in use: no ip_vs"
    assert fallback(hello("ipvs", "nftables")) == Notice("node-1", "a", "ProxyModeFallback", text)


@pytest.mark.parametrize("asked, mode", [("", "nftables"), ("auto", "iptables"), ("ipvs", "ipvs")])
def test_an_agent_in_the_mode_it_was_told_is_none(asked: str, mode: str) -> None:
    assert fallback(hello(asked, mode)) is None


def test_the_event_is_about_the_node() -> None:
    made = manifest(NOTICE, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    assert made["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "node-1"}
    assert (made["type"], made["reason"], made["message"]) == ("Warning", NOTICE.reason, NOTICE.text)
    assert made["firstTimestamp"] == "2026-01-02T03:04:05Z"
    assert made["metadata"]["name"] == manifest(NOTICE, datetime.now(UTC))["metadata"]["name"]


async def test_a_notice_is_written_once_however_often_it_is_told(server: ApiServer, tmp_path: Path) -> None:
    server.then(status(201), status(409))
    async with writing(server, tmp_path) as (events, delays):
        events.tell(NOTICE)
        events.tell(NOTICE)
        events.tell(Notice("node-2", "b", "ProxyModeFallback", "x"))
        await until(lambda: len(server.created) == 2)
    assert [path for path, _ in server.created] == ["/api/v1/namespaces/default/events"] * 2
    assert [body["involvedObject"]["name"] for _, body in server.created] == ["node-1", "node-2"]
    assert delays == []


async def test_a_server_that_is_away_for_a_moment_is_asked_again(server: ApiServer, tmp_path: Path) -> None:
    server.then(status(503), status(429), status(201))
    async with writing(server, tmp_path) as (events, delays):
        events.tell(NOTICE)
        await until(lambda: len(server.created) == 3)
    assert len(delays) == 2


@pytest.mark.parametrize("refused", [(403, 1, "grant create on events in API group"), (500, TRIES, "HTTP status 500")])
async def test_what_cannot_be_written_is_said_and_the_next_is_tried(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, refused: tuple[int, int, str]
) -> None:
    code, tries, text = refused
    server.then(*[status(code)] * tries, status(201))
    async with writing(server, tmp_path) as (events, _):
        events.tell(NOTICE)
        await until(lambda: len(server.created) == tries)
        events.tell(Notice("node-2", "b", "ProxyModeFallback", "x"))
        await until(lambda: len(server.created) == tries + 1)
    (said,) = [record.getMessage() for record in caplog.records if "cannot write an Event" in record.getMessage()]
    assert text in said


def test_what_waits_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    events = Events()
    for number in range(1001):
        events.tell(Notice(f"node-{number}", "a", "r", "t"))
    assert "dropped" in caplog.text


@pytest.mark.parametrize("space,where", [("shop", {}), ("default", {"namespace": "default"})])
def test_an_event_about_a_service_stands_in_the_one_namespace_and_names_it(space: str, where: dict[str, str]) -> None:
    notice = Notice("", "", "SourceRangesOfOneFamily", "text", (space, "web"))
    event = manifest(notice, datetime(2026, 1, 2, tzinfo=UTC))
    assert event["metadata"]["namespace"] == "default"
    assert event["metadata"]["name"].startswith("web.")
    assert event["involvedObject"] == {"apiVersion": "v1", "kind": "Service", "name": "web"} | where
    assert event["message"] == f"Service {space}/web: text"
    assert event["source"] == {"component": "deltaplane"}
