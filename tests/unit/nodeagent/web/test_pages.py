"""The metrics address, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nodeagent.config import parse
from nodeagent.config.document import plain
from nodeagent.dataplane.outcome import Commit
from nodeagent.metrics.registry import Metrics
from nodeagent.web.pages import MetricsPages
from nodeagent.web.slis import Slis
from tests.unit.nodeagent.web.client import Served, get


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def port(metrics: Metrics) -> AsyncIterator[int]:
    settings = parse(["--server=a:1", "--insecure", "--proxy-mode=nftables", "--cluster-cidr=10.0.0.0/8"])
    pages = MetricsPages(metrics.registry, "nftables", lambda: plain(settings.configuration))
    async with Served(pages) as served:
        yield served


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
