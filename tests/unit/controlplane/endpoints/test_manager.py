"""Slices in kube-controller-manager's name (`--endpointslice-manager`): taken over, followed, read after a conflict."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from controlplane.endpoints.kinds import Watched
from controlplane.endpoints.names import NAMES, SLICE_MANAGER, UPSTREAM
from controlplane.endpoints.runner import Runner, resource
from controlplane.endpoints.slicing import MANAGED_BY
from tests.unit.controlplane.endpoints.server import Server
from tests.unit.controlplane.endpoints.test_controller import running
from tests.unit.controlplane.endpoints.things import pod, pods


async def test_slices_of_that_name_are_taken_over_without_a_write_and_followed() -> None:
    server = Server()
    async with running(server, members=pods(2), manager=UPSTREAM):
        before = server.list("endpointslices")
    async with running(server, members=pods(2), manager=UPSTREAM) as run:
        assert server.list("endpointslices") == before
        run.gone(Watched.POD, "web-1")
        await run.idle()
        assert run.endpoints == [["10.1.0.1"]]


async def test_slices_of_another_name_are_left_alone() -> None:
    server = Server()
    async with running(server, members=pods(1), manager=UPSTREAM):
        pass
    async with running(server, members=pods(1)) as run:
        assert run.endpoints == [["10.1.0.1"], ["10.1.0.1"]]
        run.gone(Watched.POD, "web-0")
        await run.idle()
        by_name = {one["metadata"]["labels"][MANAGED_BY]: one["endpoints"] for one in server.list("endpointslices")}
        assert [end["addresses"] for end in by_name[UPSTREAM]] == [["10.1.0.1"]]
        assert by_name[SLICE_MANAGER] == []


async def test_after_a_conflict_the_slices_of_that_name_are_read_again() -> None:
    server = Server()
    async with running(server, members=pods(1), manager=UPSTREAM) as run:
        ((path, one),) = [(path, one) for path, one in server.objects.items() if "/endpointslices/" in path]
        server.put(path, one)
        run.tell(Watched.POD, pod(1))
        await run.idle()
        assert run.endpoints == [["10.1.0.1", "10.1.0.2"]]
        assert run.syncs["endpointslice", "conflict"] == 1


@pytest.mark.parametrize(
    ("manager", "there", "said"),
    [
        (SLICE_MANAGER, UPSTREAM, "slices of kube-controller-manager are there too"),
        (UPSTREAM, SLICE_MANAGER, "slices that were made without --endpointslice-manager are there too"),
        (UPSTREAM, UPSTREAM, ""),
        (SLICE_MANAGER, SLICE_MANAGER, ""),
    ],
)
async def test_slices_that_count_beside_ours_are_named_once_the_lease_is_won(
    caplog: pytest.LogCaptureFixture, manager: str, there: str, said: str
) -> None:
    """By whoever wins the Lease: `_warn` asks the server for the names that are not its own."""
    server: Any = Server()
    about = {"name": "web-1", "labels": {MANAGED_BY: there}}
    server.put("/apis/discovery.k8s.io/v1/endpointslices/web-1", {"addressType": "IPv4", "metadata": about})
    with caplog.at_level(logging.WARNING):
        await Runner(None, NAMES, Counter(), server, manager)._warn(server)

    found = [record.getMessage() for record in caplog.records]
    assert len(found) == bool(said)
    assert all(said in text for text in found)


def test_only_slices_of_that_name_are_watched() -> None:
    assert resource(Watched.ENDPOINT_SLICE, UPSTREAM).selector == f"{MANAGED_BY}={UPSTREAM}"
