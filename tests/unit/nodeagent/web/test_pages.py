"""The metrics address, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from deltaplane.v1 import delta_pb2 as pb
from nodeagent.config import parse
from nodeagent.config.document import plain
from nodeagent.dataplane.outcome import Commit
from nodeagent.metrics.registry import Metrics
from nodeagent.web.pages import MetricsPages, MetricsServer
from nodeagent.web.slis import Slis
from tests.unit.nodeagent.web.client import Served, get

OPEN = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def port(metrics: Metrics) -> AsyncIterator[int]:
    settings = parse(["--server=a:1", "--insecure", "--proxy-mode=nftables", "--cluster-cidr=10.0.0.0/8"])
    pages = MetricsPages(metrics.registry, "nftables", lambda: plain(settings.configuration))
    async with Served(pages, make=lambda opened: MetricsServer(opened, pages)) as served:
        yield served


async def test_to_who_asks_for_openmetrics_the_traces_of_changes_are_exemplars(port: int, metrics: Metrics) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    causes = [pb.Cause(event_unix_nano=1), pb.Cause(event_unix_nano=2, traceparent=f"00-{trace}-b7ad6b7169203331-01")]
    metrics.delivered(pb.CommitReport(commit_ns=3_000_000), causes, 10**9)

    plain, asked = await get(port, "/metrics"), await get(port, "/metrics", accept=OPEN)

    assert trace not in plain.body
    assert asked.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert (asked.body.count("# EOF"), asked.body.endswith("# EOF\n")) == (1, True)
    read: Any = read_openmetrics  # it has no types
    families = {family.name: family for family in read(asked.body)}
    shown = {
        (sample.labels.get("stage", ""), sample.exemplar.labels["trace_id"], sample.exemplar.value)
        for name in ("deltaplane_agent_stage_seconds", "deltaplane_agent_propagation_seconds")
        for sample in families[name].samples
        if sample.exemplar is not None
    }
    assert {("commit", trace, 0.003), ("", trace, 0.999999999)} <= shown
    assert {stage for stage, _, _ in shown} == {"", "receive", "resolve", "commit"}


async def test_metrics_are_what_a_scraper_reads(port: int, metrics: Metrics) -> None:
    metrics.count_commit(Commit(elements=5), 0.01)

    answer = await get(port, "/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.body)}
    assert families["deltaplane_kernel_elements"].samples[0].value == 5
    assert "process_resident_memory_bytes" in families


async def test_the_small_pages(port: int) -> None:
    mode, health, elsewhere = await get(port, "/proxyMode"), await get(port, "/healthz"), await get(port, "/metrics/x")

    assert (mode.status, mode.body, mode.headers["Content-Type"]) == (200, "nftables", "text/plain; charset=utf-8")
    assert (health.status, health.body) == (200, "ok")
    assert elsewhere.status == 404


async def test_the_running_configuration(port: int) -> None:
    answer = await get(port, "/configz")

    config = answer.json["kubeproxy.config.k8s.io"]
    assert answer.headers["Content-Type"] == "application/json"
    assert (config["kind"], config["mode"], config["clusterCIDR"]) == (
        "KubeProxyConfiguration",
        "nftables",
        "10.0.0.0/8",
    )
    assert config["conntrack"]["tcpEstablishedTimeout"] == "24h0m0s"


async def test_the_results_of_health_checks_have_the_names_every_component_has(port: int) -> None:
    before = await get(port, "/metrics/slis")
    for _ in range(3):
        await get(port, "/healthz")
    after = await get(port, "/metrics/slis")

    assert before.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "\nprocess_start_time_seconds " in before.body
    assert "kubernetes_healthcheck{" not in before.body
    assert 'kubernetes_healthcheck{name="ping",type="healthz"} 1.0\n' in after.body
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 3.0\n' in after.body
    assert "process_resident" not in after.body


def test_a_check_that_fails_is_told_as_an_error() -> None:
    slis = Slis()
    slis.checked("ping", "healthz", fine=True)
    slis.checked("ping", "healthz", fine=False)

    labels = {"name": "ping", "type": "healthz"}
    assert slis.registry.get_sample_value("kubernetes_healthcheck", labels) == 0
    total = "kubernetes_healthchecks_total"
    assert slis.registry.get_sample_value(total, {**labels, "status": "error"}) == 1
    assert slis.registry.get_sample_value(total, {**labels, "status": "success"}) == 1
