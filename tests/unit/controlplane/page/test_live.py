"""Everybody who looks is told of one look: nothing runs while nobody does, and who is slow begins anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from controlplane.page import live as live_module
from controlplane.page.live import BACKLOG, VIEWERS, Live
from deltaplane.v1 import delta_pb2, objects_pb2
from deltaplane.v1 import inspection_pb2 as pb

LIMIT = 20.0


class Cluster:
    """Answers for `Live`, of which the test says each."""

    def __init__(self) -> None:
        self.looks: asyncio.Queue[pb.ListNodesResponse | Exception] = asyncio.Queue()
        self.commits: asyncio.Queue[pb.TailCommitsResponse] = asyncio.Queue()
        self.asked = self.tails = 0
        self.untailed = asyncio.Event()
        self.live = Live(self._nodes, self._tail)

    async def _nodes(self) -> pb.ListNodesResponse:
        self.asked += 1
        found = await self.looks.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def _tail(self) -> AsyncIterator[pb.TailCommitsResponse]:
        self.tails += 1
        try:
            while True:
                yield await self.commits.get()
        finally:
            self.untailed.set()

    def look(self, *names: str, **fields: Any) -> None:
        nodes = [pb.NodeStatus(node_name=name, state=pb.NODE_STATE_LIVE, **fields) for name in names]
        self.looks.put_nowait(pb.ListNodesResponse(nodes=nodes, head_rev=9))


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PERIOD", "PAUSE", "AGAIN"):
        monkeypatch.setattr(live_module, name, 0.01)


async def told(viewer: AsyncGenerator[bytes, None]) -> tuple[str, Any]:
    async with asyncio.timeout(LIMIT):
        lines = (await anext(viewer)).decode().splitlines()
    return lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))


async def names(viewer: AsyncGenerator[bytes, None]) -> tuple[str, list[str]]:
    kind, data = await told(viewer)
    return kind, [row["name"] for row in data["rows"]]


async def test_a_viewer_gets_everything_at_first_and_then_what_changed() -> None:
    cluster = Cluster()
    viewer = cluster.live.view()
    assert await names(viewer) == ("whole", [])
    cluster.look("a", "b")
    assert await names(viewer) == ("nodes", ["a", "b"])
    cluster.look("b", "c")
    kind, data = await told(viewer)
    assert (kind, [row["name"] for row in data["rows"]], data["gone"]) == ("nodes", ["c"], ["a"])
    late = cluster.live.view()
    assert await names(late) == ("whole", ["b", "c"])
    await viewer.aclose()
    await late.aclose()


async def test_one_look_is_for_all_viewers_and_nothing_is_asked_without_one() -> None:
    cluster = Cluster()
    viewers = [cluster.live.view() for _ in range(5)]
    for viewer in viewers:
        await told(viewer)
    cluster.look("a")
    assert {(await names(viewer))[0] for viewer in viewers} == {"nodes"}
    assert (cluster.asked <= 2, cluster.tails) == (True, 1)

    for viewer in viewers:
        await viewer.aclose()
    async with asyncio.timeout(LIMIT):
        await cluster.untailed.wait()
    asked = cluster.asked
    cluster.look("a")
    await asyncio.sleep(0.05)
    assert (cluster.asked, len(cluster.live)) == (asked, 0)


async def test_a_viewer_that_does_not_keep_up_begins_anew_and_holds_up_nobody() -> None:
    cluster = Cluster()
    slow, quick = cluster.live.view(), cluster.live.view()
    await told(slow)
    await told(quick)
    for number in range(2 * BACKLOG):
        cluster.look(f"node-{number}")
        assert (await names(quick))[1] == [f"node-{number}"]

    assert await names(slow) == ("whole", [f"node-{2 * BACKLOG - 1}"])
    await slow.aclose()
    await quick.aclose()


async def test_what_fails_is_told_and_tried_again() -> None:
    cluster = Cluster()
    viewer = cluster.live.view()
    await told(viewer)
    cluster.looks.put_nowait(RuntimeError("the peers are away"))
    cluster.look("a")

    assert await told(viewer) == ("trouble", {"what": "nodes", "why": "the peers are away"})
    assert await names(viewer) == ("nodes", ["a"])
    await viewer.aclose()


async def test_changes_are_told_as_they_are_acknowledged_and_a_silent_replica_is_named() -> None:
    cluster = Cluster()
    viewer = cluster.live.view()
    await told(viewer)
    key = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="shop", name="web")
    cause = delta_pb2.Cause(object=key, event_unix_nano=10**18)
    cluster.commits.put_nowait(pb.TailCommitsResponse(missing=pb.ReplicaStatus(address="h:1", error="away")))
    cluster.commits.put_nowait(pb.TailCommitsResponse(node_name="a", causes=[cause], event_to_ack_ns=10**7))

    assert await told(viewer) == ("trouble", {"what": "replica h:1", "why": "away"})
    kind, data = await told(viewer)
    assert (kind, data[0]["object"], data[0]["ms"]) == ("changes", "Service shop/web", 10.0)
    await viewer.aclose()


async def test_a_quiet_stream_says_that_it_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "ALIVE", 0.01)
    viewer = Cluster().live.view()
    await told(viewer)

    assert (await anext(viewer)).startswith(b":")
    await viewer.aclose()


async def test_of_many_who_come_at_once_no_more_look_than_may() -> None:
    """Each was let in before any of them had begun to look."""
    cluster = Cluster()
    viewers = [cluster.live.view() for _ in range(VIEWERS + 8)]

    first = await asyncio.gather(*(anext(each, b"") for each in viewers))
    for each in viewers:
        await each.aclose()

    assert sum(map(bool, first)) == VIEWERS
