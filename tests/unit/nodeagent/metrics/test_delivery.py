"""How long a change took on this node, by stage, and from the API event to this kernel."""

from __future__ import annotations

import pytest

from deltaplane.v1 import delta_pb2 as pb
from nodeagent.metrics.registry import Metrics

BEGIN = 1_800_000_000 * 10**9
REPORT = pb.CommitReport(queued_ns=10**7, resolve_ns=2 * 10**7, commit_ns=3 * 10**7)


def test_the_stages_of_a_change_and_the_whole_by_the_oldest_event() -> None:
    metrics = Metrics()
    causes = [pb.Cause(event_unix_nano=BEGIN + 1), pb.Cause(event_unix_nano=BEGIN), pb.Cause()]
    metrics.delivered(REPORT, causes, BEGIN + 10**9)

    def of(stage: str) -> float | None:
        return metrics.registry.get_sample_value("deltaplane_agent_stage_seconds_sum", {"stage": stage})

    assert [of("receive"), of("resolve"), of("commit")] == pytest.approx([0.01, 0.02, 0.03])
    assert metrics.registry.get_sample_value("deltaplane_agent_propagation_seconds_sum") == pytest.approx(1.0)
    assert metrics.registry.get_sample_value("deltaplane_agent_propagation_seconds_count") == 1


def test_clocks_that_differ_make_nothing_of_less_than_nothing_and_no_event_is_no_propagation() -> None:
    metrics = Metrics()
    metrics.delivered(REPORT, [pb.Cause(event_unix_nano=BEGIN)], BEGIN - 10**9)
    assert metrics.registry.get_sample_value("deltaplane_agent_propagation_seconds_sum") == 0
    metrics.delivered(REPORT, [], BEGIN)
    assert metrics.registry.get_sample_value("deltaplane_agent_propagation_seconds_count") == 1
