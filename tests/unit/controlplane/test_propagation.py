"""How long changes take is counted by stage, at a cost that nodes do not add to, and a traced one is an exemplar."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from controlplane.lagging import SLOWEST, lagging
from controlplane.propagation import Propagation
from controlplane.session import Session
from controlplane.trace import NodeCommit, NoTracing
from deltaplane.v1 import delta_pb2 as pb

SECOND = 10**9
BEGIN = 1_800_000_000 * SECOND
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = f"00-{TRACE}-b7ad6b7169203331-01"


class Heard(NoTracing):
    """Tracing that remembers what it is told."""

    def __init__(self) -> None:
        self.commits: list[NodeCommit] = []
        self.batches: list[Sequence[pb.Cause]] = []

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        return TRACED

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        self.batches.append(causes)

    def committed(self, commit: NodeCommit) -> None:
        self.commits.append(commit)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def propagation(heard: Heard) -> Propagation:
    return Propagation(heard)


@pytest.fixture
def registry(propagation: Propagation) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(propagation)
    return registry


def commit(*causes: pb.Cause, failed: bool = False) -> NodeCommit:
    """Sent at 40 ms, received at 50, waits 10, resolved in 10, committed in 20, at 90 ms; its Ack comes at 100 ms."""
    ms = 10**6
    report = pb.CommitReport(to_rev=7, queued_ns=10 * ms, resolve_ns=10 * ms, commit_ns=20 * ms)
    times = {"emitted_ns": BEGIN + 30 * ms, "sent_ns": BEGIN + 40 * ms, "acked_ns": BEGIN + 100 * ms}
    return NodeCommit(node="a", nodes=3, causes=causes, report=report, failed=failed, **times)


def cause(event: int = BEGIN, **more: int | str) -> pb.Cause:
    return pb.Cause(event_unix_nano=event, **more)  # type: ignore[arg-type]


def seconds(registry: CollectorRegistry, stage: str) -> float | None:
    return registry.get_sample_value("deltaplane_propagation_stage_seconds_sum", {"stage": stage})


def test_each_stage_of_a_commit_is_counted_and_the_whole_from_the_api_event(
    propagation: Propagation, registry: CollectorRegistry
) -> None:
    propagation.committed(commit(cause()))

    found = [seconds(registry, stage) for stage in ("send", "receive", "resolve", "commit", "ack")]
    assert found == pytest.approx([0.02, 0.01, 0.01, 0.02, 0.01], abs=1e-6)
    assert registry.get_sample_value("deltaplane_propagation_seconds_sum") == pytest.approx(0.09, abs=1e-6)


def test_a_commit_of_several_changes_counts_once_by_the_oldest(
    propagation: Propagation, registry: CollectorRegistry
) -> None:
    propagation.committed(commit(cause(BEGIN + 10**7), cause(BEGIN - 2 * SECOND), cause(0)))

    assert registry.get_sample_value("deltaplane_propagation_seconds_count") == 1
    assert registry.get_sample_value("deltaplane_propagation_seconds_bucket", {"le": "2.0"}) == 0
    assert registry.get_sample_value("deltaplane_propagation_seconds_bucket", {"le": "3.0"}) == 1


def test_a_commit_that_no_api_event_caused_is_no_propagation(
    propagation: Propagation, registry: CollectorRegistry
) -> None:
    propagation.committed(commit())

    assert registry.get_sample_value("deltaplane_propagation_seconds_count") == 0
    assert registry.get_sample_value("deltaplane_node_commits_total", {"result": "ok"}) == 1


def test_failed_commits_are_counted_apart(propagation: Propagation, registry: CollectorRegistry) -> None:
    propagation.committed(commit(failed=True))

    assert registry.get_sample_value("deltaplane_node_commits_total", {"result": "failed"}) == 1
    assert registry.get_sample_value("deltaplane_node_commits_total", {"result": "ok"}) == 0


def test_a_change_is_counted_once_whatever_number_of_nodes_there_is(
    propagation: Propagation, registry: CollectorRegistry
) -> None:
    change = cause(ingested_unix_nano=BEGIN + 10**6, trigger_unix_nano=BEGIN - SECOND)
    propagation.batched([change], BEGIN + 3 * 10**6)
    for _ in range(3):
        propagation.committed(commit(change))

    assert seconds(registry, "trigger") == pytest.approx(1.0)
    assert seconds(registry, "ingest") == pytest.approx(0.001)
    assert seconds(registry, "batch") == pytest.approx(0.002)


@pytest.mark.parametrize("trigger", [0, BEGIN + SECOND, BEGIN - 86_400 * SECOND])
def test_a_trigger_time_that_makes_no_sense_does_not_count(
    propagation: Propagation, registry: CollectorRegistry, trigger: int
) -> None:
    propagation.batched([cause(ingested_unix_nano=BEGIN, trigger_unix_nano=trigger)], BEGIN)

    assert registry.get_sample_value("deltaplane_propagation_stage_seconds_count", {"stage": "trigger"}) == 0
    assert registry.get_sample_value("deltaplane_propagation_stage_seconds_count", {"stage": "ingest"}) == 1


def test_a_clock_that_was_set_back_makes_no_negative_durations(
    propagation: Propagation, registry: CollectorRegistry
) -> None:
    propagation.committed(commit(cause(BEGIN + 60 * SECOND)))
    propagation.batched([cause(ingested_unix_nano=BEGIN - SECOND)], BEGIN - 2 * SECOND)

    assert registry.get_sample_value("deltaplane_propagation_seconds_sum") == 0
    assert seconds(registry, "ingest") == 0
    assert seconds(registry, "batch") == 0


def test_the_tracing_behind_it_hears_everything(propagation: Propagation, heard: Heard) -> None:
    changes, done = [cause()], commit(cause())
    propagation.batched(changes, BEGIN)
    propagation.committed(done)

    assert propagation.sample("Service a/b", BEGIN, BEGIN) == TRACED
    assert heard.batches == [changes]
    assert heard.commits == [done]


def test_the_trace_of_a_sampled_change_is_an_exemplar_in_openmetrics(
    propagation: Propagation, registry: CollectorRegistry
) -> None:
    def exposed() -> str:
        found: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
        return found.decode()

    propagation.committed(commit(cause()))
    assert "trace_id" not in exposed()
    propagation.committed(commit(cause(), cause(traceparent=TRACED)))

    lines = exposed().splitlines()
    shown = [line for line in lines if f'# {{trace_id="{TRACE}"}} 0.09' in line]
    assert [line.partition(" ")[0] for line in shown] == ['deltaplane_propagation_seconds_bucket{le="0.1"}']


class Lagging:
    closed = None

    def __init__(self, number: int) -> None:
        self.node_name, self._lag = f"node-{number}", number / 100

    def behind_seconds(self, now: float) -> float:
        return self._lag


def test_the_lag_of_5000_nodes_is_as_many_series_as_that_of_fifty() -> None:
    def shown(nodes: int) -> dict[str, dict[str, float]]:
        sessions: list[Session] = [Lagging(number) for number in range(nodes)]  # type: ignore[misc]
        metrics = {metric.name: metric.samples for metric in lagging(sessions, 0.0)}
        return {name: {"".join(each.labels.values()): each.value for each in found} for name, found in metrics.items()}

    fleet = shown(5000)

    assert len(fleet["deltaplane_nodes_lagging"]) == len(shown(50)["deltaplane_nodes_lagging"])
    assert fleet["deltaplane_nodes_lagging"]["30"] == 5000 - 3001
    assert len(fleet["deltaplane_slowest_node_lag_seconds"]) == SLOWEST
    assert fleet["deltaplane_slowest_node_lag_seconds"]["node-4999"] == 49.99
    assert shown(50)["deltaplane_slowest_node_lag_seconds"] == {}
