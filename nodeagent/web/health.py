"""Whether this node's proxy is healthy, and its /healthz and /livez (K2, K3, KEP-3836).

`Health` is told of changes that arrive and of commits; both clocks are given to it. A change that has not reached the
kernel after twice the sync period makes it unhealthy. Before its first commit it is healthy: it is starting.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from deltaplane.http1 import JSON
from deltaplane.model import Node
from nodeagent.web.server import NOT_FOUND, Response

FAMILIES = {4: "IPv4", 6: "IPv6"}
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which clients of kube-proxy know


class FamilyHealth(Struct, frozen=True):
    """One address family; `updated` is the wall-clock time of the last commit, seconds."""

    updated: float
    healthy: bool


class Health:
    """Health of the families that have been committed at least once, by number (4, 6)."""

    def __init__(
        self,
        late_after: float,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._late_after = late_after  # seconds
        self._monotonic = monotonic
        self._wall = wall
        self._updated: dict[int, float] = {}
        self._waiting_since: dict[int, float] = {}

    def queued(self, families: Iterable[int] = tuple(FAMILIES)) -> None:
        """A change arrived that is to reach the kernel; the oldest one counts."""
        now = self._monotonic()
        for family in families:
            self._waiting_since.setdefault(family, now)

    def updated(self, families: Iterable[int] = tuple(FAMILIES)) -> None:
        """The kernel has all that arrived."""
        now = self._wall()
        for family in families:
            self._waiting_since.pop(family, None)
            self._updated[family] = now

    @property
    def healthy(self) -> bool:
        return all(family.healthy for family in self.families().values())

    def families(self) -> dict[int, FamilyHealth]:
        now = self._monotonic()
        return {
            family: FamilyHealth(updated, now - self._waiting_since.get(family, now) < self._late_after)
            for family, updated in sorted(self._updated.items())
        }

    def report(self, *, node_eligible: bool | None = None) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and the body that says so; without `node_eligible` it is that of /livez."""
        families = self.families()
        healthy = all(family.healthy for family in families.values())
        fine = healthy and node_eligible is not False
        now = self._wall()
        last = now if fine else max((family.updated for family in families.values()), default=None)
        body: dict[str, Any] = {"lastUpdated": _stamp(last), "currentTime": _stamp(now)}
        if node_eligible is not None:
            body["nodeEligible"] = node_eligible
        body["healthy"] = healthy
        if families:
            body["status"] = {
                FAMILIES[number]: {"lastUpdated": _stamp(family.updated), "healthy": family.healthy}
                for number, family in families.items()
            }
        return fine, body


def eligible(node: Node | None) -> bool:
    """Whether load balancers should send traffic to this node: it is known, and not about to go (K3)."""
    return node is not None and not node.deleting and not node.to_be_deleted_by_autoscaler


class HealthPages:
    """The health address. `node` gives the Node object as it is now; `count` is told of each answer: path, status."""

    def __init__(self, health: Health, node: Callable[[], Node | None], count: Callable[[str, int], None]) -> None:
        self._health = health
        self._node = node
        self._count = count

    async def __call__(self, path: str) -> Response:
        if path == "/healthz":
            fine, body = self._health.report(node_eligible=eligible(self._node()))
        elif path == "/livez":
            fine, body = self._health.report()
        else:
            return NOT_FOUND
        status = 200 if fine else 503
        self._count(path, status)
        return Response(json.dumps(body, separators=(",", ":")), status, JSON)


def _stamp(seconds: float | None) -> str:
    if seconds is None:
        return NEVER
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
