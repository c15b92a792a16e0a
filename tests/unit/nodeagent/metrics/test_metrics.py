"""Metrics have kube-proxy's names and labels, and say what happened."""

from __future__ import annotations

import pytest

from deltaplane.durations import DURATIONS
from deltaplane.forwarding import Entry, Frontend, FrontendKind, Masquerade, ServiceForwarding, Target, Verdict
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.metrics.programming_latency import PROGRAMMING
from nodeagent.metrics.registry import Metrics

WEB = ObjectKey(Kind.SERVICE, "shop", "web")
API = ObjectKey(Kind.SERVICE, "shop", "api")
SYNC = "kubeproxy_sync_proxy_rules"
TARGETS = (Target(b"\x0a\0\0\1", 80),)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    "name, kind, labels",
    [
        (f"{SYNC}_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_sync_full_proxy_rules_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_network_programming_duration_seconds", "histogram", {"ip_family"}),
        (f"{SYNC}_last_timestamp_seconds", "gauge", {"ip_family"}),
        (f"{SYNC}_last_queued_timestamp_seconds", "gauge", {"ip_family"}),
        (f"{SYNC}_endpoint_changes_pending", "gauge", set()),
        (f"{SYNC}_endpoint_changes", "counter", set()),
        (f"{SYNC}_service_changes_pending", "gauge", set()),
        (f"{SYNC}_service_changes", "counter", set()),
        (f"{SYNC}_no_local_endpoints_total", "gauge", {"traffic_policy", "ip_family"}),
        (f"{SYNC}_nftables_sync_failures", "counter", {"ip_family"}),
        (f"{SYNC}_nftables_cleanup_failures", "counter", {"ip_family"}),
        ("kubeproxy_conntrack_reconciler_sync_duration_seconds", "histogram", {"ip_family"}),
        ("kubeproxy_conntrack_reconciler_deleted_entries", "counter", {"ip_family"}),
        ("kubeproxy_proxy_healthz", "counter", {"code"}),
        ("kubeproxy_proxy_livez", "counter", {"code"}),
    ],
)
def test_the_names_and_labels_of_kube_proxy(name: str, kind: str, labels: set[str]) -> None:
    families = {family.name: family for family in Metrics().registry.collect()}

    assert families[name].type == kind
    assert {frozenset(sample.labels) - {"le"} for sample in families[name].samples} == {frozenset(labels)}


def test_what_belongs_to_nftables_is_not_shown_in_another_mode() -> None:
    assert not any("nftables" in family.name for family in Metrics("iptables").registry.collect())


def test_buckets_reach_below_a_millisecond_and_above_a_minute_and_have_kube_proxys_bounds() -> None:
    assert min(DURATIONS) < 0.0001
    assert max(DURATIONS) > 60
    assert {0.001 * 2**power for power in range(15)} <= set(DURATIONS)
    assert {0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30)} <= set(PROGRAMMING)
    assert list(PROGRAMMING) == sorted(PROGRAMMING)


def test_a_commit_of_a_change_and_one_of_everything() -> None:
    metrics = Metrics()
    metrics.count_commit(Commit(messages=3, elements=5, size=700), 0.0003)
    metrics.count_commit(Commit(messages=1, elements=1, size=100), 100.0, complete=True)

    for family in ("IPv4", "IPv6"):
        name = "kubeproxy_sync_partial_proxy_rules_duration_seconds"
        assert value(metrics, f"{name}_count", ip_family=family) == 1
        assert value(metrics, f"{name}_bucket", ip_family=family, le="0.0005") == 1
        assert value(metrics, f"{name}_bucket", ip_family=family, le="0.00025") == 0
        name = "kubeproxy_sync_full_proxy_rules_duration_seconds"
        assert value(metrics, f"{name}_bucket", ip_family=family, le="65.536") == 0
        assert value(metrics, f"{name}_bucket", ip_family=family, le="+Inf") == 1
        assert value(metrics, f"{SYNC}_duration_seconds_count", ip_family=family) == 2
        assert value(metrics, f"{SYNC}_last_timestamp_seconds", ip_family=family)
    assert value(metrics, "deltaplane_commit_duration_seconds_sum") == pytest.approx(100.0003)
    assert value(metrics, "deltaplane_kernel_messages_total") == 4
    assert value(metrics, "deltaplane_kernel_elements_total") == 6
    assert value(metrics, "deltaplane_kernel_bytes_total") == 800


def test_changes_are_pending_until_they_are_committed() -> None:
    metrics = Metrics()
    metrics.received(services=1, endpoints=2)
    metrics.received(services=0, endpoints=1)
    assert value(metrics, f"{SYNC}_service_changes_pending") == 1
    assert value(metrics, f"{SYNC}_endpoint_changes_pending") == 3
    assert value(metrics, f"{SYNC}_last_queued_timestamp_seconds", ip_family="IPv6")

    metrics.refused()
    assert value(metrics, f"{SYNC}_endpoint_changes_pending") == 3
    assert value(metrics, f"{SYNC}_nftables_sync_failures_total", ip_family="IPv4") == 1
    assert value(metrics, "deltaplane_kernel_refusals_total") == 1

    metrics.count_commit(Commit(), 0.1)
    assert value(metrics, f"{SYNC}_service_changes_pending") == value(metrics, f"{SYNC}_endpoint_changes_pending") == 0
    assert value(metrics, f"{SYNC}_endpoint_changes_total") == 3


def test_failing_objects_by_code() -> None:
    metrics = Metrics()
    rejected, busy = Failed(WEB, "KERNEL_REJECTED", "x"), Failed(API, "KERNEL_BUSY", "x")
    metrics.count_commit(Commit(failed=(rejected, busy)), 0.1)
    metrics.count_commit(Commit(failed=(rejected,)), 0.1)
    metrics.count_commit(Commit(failed=(rejected,)), 0.1)

    assert value(metrics, "deltaplane_objects_failing", code="KERNEL_REJECTED") == 1
    assert value(metrics, "deltaplane_objects_failing", code="KERNEL_BUSY") == 0
    assert value(metrics, "deltaplane_object_failures_total", code="KERNEL_REJECTED") == 1

    metrics.count_commit(Commit(), 0.1)
    assert value(metrics, "deltaplane_objects_failing", code="KERNEL_REJECTED") == 0


def test_the_lag_grows_while_nobody_says_where_the_head_is() -> None:
    """Before the first contact, without a stream, and while an open stream is silent."""
    clock = Clock()
    metrics = Metrics(clock=clock)
    lag = "deltaplane_head_lag_seconds"
    clock.now = 2.0
    assert value(metrics, lag) == value(metrics, "deltaplane_last_contact_seconds") == 2.0

    metrics.connected(connected=True)
    metrics.heard()
    metrics.revisions(applied=5, head=5)
    clock.now = 12.0
    assert (value(metrics, lag), value(metrics, "deltaplane_last_contact_seconds")) == (0.0, 10.0)
    clock.now = 22.0
    assert value(metrics, lag) == 20.0

    metrics.heard()
    assert value(metrics, lag) == 0.0
    metrics.connected(connected=False)
    clock.now = 23.0
    assert value(metrics, lag) == value(metrics, "deltaplane_last_contact_seconds") == 1.0


def test_failures_of_the_processs_own_tasks_are_shown_by_task() -> None:
    metrics, failures = Metrics(), {"conntrack": 2}
    metrics.watch(failures)

    assert value(metrics, "deltaplane_task_failures_total", task="conntrack") == 2


def test_the_lag_grows_while_the_kernel_is_behind() -> None:
    clock = Clock()
    metrics = Metrics(clock=clock)
    metrics.connected(connected=True)
    metrics.revisions(applied=5, head=7)
    clock.now = 3.0
    metrics.revisions(applied=6, head=9)
    clock.now = 4.0
    assert value(metrics, "deltaplane_head_lag_seconds") == 4.0
    assert value(metrics, "deltaplane_applied_revision") == 6
    assert value(metrics, "deltaplane_head_revision") == 9

    metrics.revisions(applied=9, head=9)
    clock.now = 99.0
    metrics.heard()
    assert value(metrics, "deltaplane_head_lag_seconds") == 0


def test_what_is_counted_one_by_one() -> None:
    metrics = Metrics()
    metrics.connected(connected=True)
    metrics.resynced("GAP")
    metrics.repaired()
    metrics.conntrack(4, 0.002, 3)
    metrics.answered("/healthz", 503)
    metrics.answered("/livez", 200)

    assert value(metrics, "deltaplane_stream_connected") == value(metrics, "deltaplane_stream_connects_total") == 1
    assert value(metrics, "deltaplane_resyncs_total", reason="GAP") == 1
    assert value(metrics, "deltaplane_kernel_repairs_total") == 1
    assert value(metrics, "kubeproxy_conntrack_reconciler_deleted_entries_total", ip_family="IPv4") == 3
    assert value(metrics, "kubeproxy_proxy_healthz_total", code="503") == 1
    assert value(metrics, "kubeproxy_proxy_livez_total", code="200") == 1

    metrics.connected(connected=False)
    assert value(metrics, "deltaplane_stream_connected") == 0


def entry(
    kind: FrontendKind, *, family: int = 4, verdict: Verdict = Verdict.FORWARD, outside: Verdict = Verdict.FORWARD
) -> Entry:
    frontend = Frontend(kind, family, b"", 6, 80)
    return Entry(frontend, "http", TARGETS, verdict, Masquerade.ALWAYS, external_verdict=outside)


def unserved(metrics: Metrics) -> dict[tuple[str, str], float | None]:
    name = f"{SYNC}_no_local_endpoints_total"
    return {
        (policy, family): count
        for policy in ("internal", "external")
        for family in ("IPv4", "IPv6")
        if (count := value(metrics, name, traffic_policy=policy, ip_family=family))
    }


def test_service_ports_without_a_local_endpoint() -> None:
    metrics = Metrics()
    dropped = ServiceForwarding(WEB, (
        entry(FrontendKind.CLUSTER_IP, verdict=Verdict.DROP),
        entry(FrontendKind.NODE_PORT, outside=Verdict.DROP),
        entry(FrontendKind.LOAD_BALANCER, outside=Verdict.DROP),
        entry(FrontendKind.CLUSTER_IP, family=6),
        entry(FrontendKind.NODE_PORT, family=6, outside=Verdict.DROP),
    ))  # fmt: skip
    refused = ServiceForwarding(API, (entry(FrontendKind.CLUSTER_IP, verdict=Verdict.REJECT),))
    metrics.resolved([dropped, refused])
    metrics.resolved([dropped])
    assert unserved(metrics) == {("internal", "IPv4"): 1, ("external", "IPv4"): 1, ("external", "IPv6"): 1}

    metrics.resolved([ServiceForwarding(API, (entry(FrontendKind.CLUSTER_IP, verdict=Verdict.DROP),))])
    assert unserved(metrics)["internal", "IPv4"] == 2

    metrics.resolved([ServiceForwarding(WEB), ServiceForwarding(API)])
    assert unserved(metrics) == {}
