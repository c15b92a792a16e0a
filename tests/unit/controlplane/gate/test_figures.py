"""The readiness gate in figures: who waits and for how long, what was set and why, whose writes failed."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controlplane.gate.figures import GateFigures
from controlplane.gate.pods import GatedPod
from controlplane.gate.rounds import Verdict
from controlplane.gate.writer import Writer
from controlplane.source.resource import ApiError

POD = GatedPod("shop", "web-1", "uid", early=True)


class Api:
    """Answers each write with `status`."""

    status = 200

    async def patch(self, *_: Any) -> None:
        if self.status != 200:
            raise ApiError("no", self.status)


@pytest.fixture
def figures() -> GateFigures:
    return GateFigures(lambda: 4, lambda: 100.0)


def of(figures: GateFigures, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(figures)
    return registry.get_sample_value(f"deltaplane_gate_{name}", labels)


def test_who_waits_and_who_is_left_out_is_shown_by_the_replica_with_the_lease(figures: GateFigures) -> None:
    assert (of(figures, "pods_waiting"), of(figures, "longest_wait_seconds")) == (4, 0)
    figures.since, figures.left_out = lambda: {"a": 30.0, "b": 90.0}, lambda: {"node-1", "node-2"}
    assert (of(figures, "longest_wait_seconds"), of(figures, "nodes_left_out")) == (70, 2)
    figures.over()
    assert (of(figures, "longest_wait_seconds"), of(figures, "nodes_left_out")) == (0, 0)


@pytest.mark.parametrize("status", [200, 403, 404])
async def test_each_write_counts_by_its_reason_or_as_a_failure_where_the_pod_is_still_there(
    figures: GateFigures, status: int
) -> None:
    api: Any = Api()
    api.status = status
    await Writer(api, figures).set(POD, Verdict(True, "NodesLeftOut", "2 of 3"))
    assert of(figures, "pods_set_total", reason="NodesLeftOut") == (status == 200)
    assert of(figures, "pods_set_total", reason="Programmed") == 0
    assert of(figures, "write_failures_total") == (status == 403)
