"""Health by injected clocks, and what /healthz and /livez say of it (K2, K3)."""

from __future__ import annotations

from typing import Any

import pytest

from deltaplane.model import Node
from nodeagent.web.health import NEVER, Health, HealthPages, eligible
from tests.unit.nodeagent.web.client import Served, get

TIMEOUT = 60.0
KNOWN = Node("a")
DELETING = Node("a", deleting=True)
TO_BE_DELETED = Node("a", to_be_deleted_by_autoscaler=True)


class Clock:
    """Both clocks at once; the wall began in 2026."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_767_225_600 + self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(TIMEOUT, clock.monotonic, clock.wall)


def test_a_starting_proxy_is_healthy(health: Health, clock: Clock) -> None:
    health.queued()
    clock.now = 1000

    assert health.healthy
    assert health.families() == {}


def test_a_change_may_wait_for_the_timeout_and_not_longer(health: Health, clock: Clock) -> None:
    health.updated()
    clock.now = 10
    health.queued()
    clock.now = 10 + TIMEOUT - 0.001
    before = health.healthy
    clock.now = 10 + TIMEOUT
    late = health.healthy
    health.updated()

    assert (before, late, health.healthy) == (True, False, True)


def test_the_oldest_waiting_change_counts(health: Health, clock: Clock) -> None:
    health.updated()
    health.queued()
    clock.now = 50
    health.queued()
    clock.now = TIMEOUT

    assert not health.healthy


def test_without_changes_nothing_grows_old(health: Health, clock: Clock) -> None:
    health.updated()
    clock.now = 1e6

    assert health.healthy


def test_one_late_family_is_enough_and_is_named(health: Health, clock: Clock) -> None:
    health.updated()
    health.queued([6])
    clock.now = TIMEOUT
    health.updated([4])

    fine, body = health.report()

    assert not fine
    assert body["status"] == {
        "IPv4": {"lastUpdated": "2026-01-01T00:01:00.000000Z", "healthy": True},
        "IPv6": {"lastUpdated": "2026-01-01T00:00:00.000000Z", "healthy": False},
    }
    assert body["lastUpdated"] == "2026-01-01T00:01:00.000000Z"


def test_while_all_is_well_the_last_update_is_now(health: Health, clock: Clock) -> None:
    """What kube-proxy's clients know: only a sick proxy shows an old time."""
    health.updated()
    clock.now = 90

    _, body = health.report(node_eligible=True)
    assert body["lastUpdated"] == body["currentTime"] == "2026-01-01T00:01:30.000000Z"

    _, body = health.report(node_eligible=False)
    assert body["lastUpdated"] == "2026-01-01T00:00:00.000000Z"


def test_before_the_first_update_there_is_no_last_one(health: Health) -> None:
    _, body = health.report(node_eligible=False)

    assert body["lastUpdated"] == NEVER
    assert "status" not in body


@pytest.mark.parametrize("node, expected", [(None, False), (KNOWN, True), (DELETING, False), (TO_BE_DELETED, False)])
def test_which_nodes_are_eligible(node: Node | None, expected: bool) -> None:
    assert eligible(node) is expected


@pytest.mark.parametrize(
    "node, late, statuses",
    [
        (KNOWN, False, (200, 200)),
        (None, False, (503, 200)),
        (DELETING, False, (503, 200)),
        (TO_BE_DELETED, False, (503, 200)),
        (KNOWN, True, (503, 503)),
        (DELETING, True, (503, 503)),
    ],
)
async def test_what_is_answered(
    health: Health, clock: Clock, node: Node | None, late: bool, statuses: tuple[int, int]
) -> None:
    health.updated()
    if late:
        health.queued()
        clock.now = TIMEOUT
    counted: list[Any] = []
    async with Served(HealthPages(health, lambda: node, lambda path, status: counted.append((path, status)))) as port:
        ready, alive = await get(port, "/healthz"), await get(port, "/livez")
        other = await get(port, "/elsewhere")

    assert (ready.status, alive.status, other.status) == (*statuses, 404)
    assert counted == list(zip(("/healthz", "/livez"), statuses, strict=True))
    assert ready.headers["Content-Type"] == alive.headers["Content-Type"] == "application/json"
    assert list(ready.json) == ["lastUpdated", "currentTime", "nodeEligible", "healthy", "status"]
    assert list(alive.json) == ["lastUpdated", "currentTime", "healthy", "status"]
    assert ready.json["nodeEligible"] is eligible(node)
    assert ready.json["healthy"] is alive.json["healthy"] is not late
