"""The control plane's metrics page says what is true when it is asked, and the manual names each metric."""

from __future__ import annotations

import re
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from controlplane.certificates.keeper import Keeper
from controlplane.certificates.values import Times
from controlplane.cluster import Cluster
from controlplane.errors import ControlPlaneError
from controlplane.facts import Fact, Following
from controlplane.gate.figures import GateFigures
from controlplane.identity.refused import Refused
from controlplane.lease_figures import LeaseFigures
from controlplane.log import Log
from controlplane.metrics import Figures, serve
from controlplane.nodes import Nodes
from controlplane.otlp_export import QuietExporter
from controlplane.propagation import Propagation
from controlplane.report import Report
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.trace import NoTracing
from deltaplane import tls
from deltaplane.loop_meter import LoopMeter
from deltaplane.model import Kind
from deltaplane.tls_figures import Certificates
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Noted

MANUAL = Path(__file__).parents[3] / "docs" / "operating.md"


class Page:
    def __init__(self) -> None:
        self.nodes, self.report = Nodes(), Report()
        self.cluster = Cluster(Log(), NoTracing(), self.report)
        self.sources = [Following("services", 1), Following("nodes", time.time_ns() - 90 * 10**9, "403: not allowed")]
        self.requests = Counter({("watch", "services", "200"): 2})
        self.failures = Counter({"Events": 1})
        self.figures = Figures(
            self.cluster, self.nodes, self.report,
            sources=lambda: self.sources, requests=self.requests, failures=self.failures,
        )  # fmt: skip
        self.registry = CollectorRegistry()
        self.registry.register(self.figures)
        self.registry.register(LoopMeter())
        self.registry.register(Propagation(NoTracing()))
        self.registry.register(Refused())
        self.registry.register(Certificates(tls.Kept(tls.Files())))
        objects: Any = None  # nothing is asked for the figures
        self.registry.register(Keeper(objects, objects, objects, (), Times(86400.0, 3600.0)))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def stream(page: Page, name: str) -> Session:
    store, log = page.cluster.store, page.cluster.log
    session = Noted(page.nodes, store, log, Snapshots(store, log))
    session.on_message(pb.WatchRequest(hello=pb.Hello(node_name=name, protocol_min=1, protocol_max=1)), 0.0)
    while session.next_message(0.0) is not None:
        pass
    return session


@pytest.fixture
def page() -> Page:
    made = Page()
    for kind in Kind:
        made.cluster.synced(kind)
    return made


def test_streams_by_state_and_what_they_ask_for_again(page: Page) -> None:
    first, second = stream(page, "a"), stream(page, "b")
    first.on_message(pb.WatchRequest(resync_request=pb.ResyncRequest(reason=pb.RESYNC_REASON_GAP)), 1.0)
    first.on_message(pb.WatchRequest(resync_request=pb.ResyncRequest(reason=77)), 1.0)  # type: ignore[arg-type]
    second.close("CANCELLED", "gone")

    assert page.value("deltaplane_streams", state="STALLED") == 1  # nothing was acknowledged since the clock began
    assert page.value("deltaplane_streams", state="DISCONNECTED") == 1
    assert page.value("deltaplane_resyncs_total", reason="GAP") == 1
    assert page.value("deltaplane_resyncs_total", reason="UNKNOWN") == 1


def test_how_states_were_brought_up_and_what_the_snapshots_took(page: Page) -> None:
    stream(page, "a")

    assert page.value("deltaplane_resumes_total", reason="CONNECTED", extent="whole") == 1
    size = page.value("deltaplane_snapshot_bytes_total", extent="whole")
    assert size is not None
    assert size > 0


def test_a_kind_that_cannot_be_followed_is_told_with_its_age(page: Page) -> None:
    assert page.value("deltaplane_source_following", resource="services") == 1
    assert page.value("deltaplane_source_following", resource="nodes") == 0
    age = page.value("deltaplane_source_failing_seconds", resource="nodes")
    assert age is not None
    assert age >= 90


def test_the_history_and_what_cannot_be_used(page: Page) -> None:
    page.cluster.update([Fact(objects.service_key(1), objects.service(1))])
    page.report.invalid("Service ns/bad", "spec.type: 9 is not known")

    assert page.value("deltaplane_objects", kind="Service") == 1
    assert page.value("deltaplane_head_revision") == 2
    assert page.value("deltaplane_objects_unusable") == 1
    assert page.value("deltaplane_history_renewals_total") == 0
    assert page.value("deltaplane_api_requests_total", verb="watch", resource="services", code="200") == 2
    assert page.value("deltaplane_task_failures_total", task="Events") == 1


def test_the_manual_names_every_metric_and_no_other(page: Page) -> None:
    for each in (GateFigures(int, float), LeaseFigures(tuple), QuietExporter(InMemorySpanExporter(), "")):
        page.registry.register(each)
    shown = {
        line.split()[2] for line in generate_latest(page.registry).decode().splitlines() if line.startswith("# TYPE")
    }
    section = MANUAL.read_text().partition("## Metrics of the control plane")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(deltaplane_[a-z_]+)", section))

    assert named == shown


def test_it_is_served_over_http_and_ends_and_says_when_it_cannot_bind(page: Page) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ControlPlaneError, match=rf"--metrics-listen=127\.0\.0\.1:{port}: .*in use"):
            serve(f"127.0.0.1:{port}", page.figures, LoopMeter())
    end = serve(f"127.0.0.1:{port}", page.figures, LoopMeter())
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"deltaplane_streams" in answer.read()
    finally:
        end()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)
