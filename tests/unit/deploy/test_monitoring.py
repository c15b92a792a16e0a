"""Rules and dashboards name metrics that the programs have; each alert has a section in the runbook and a test."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from controlplane.endpoints.figures import EndpointsFigures
from controlplane.endpoints.runner import Runner
from controlplane.gate.figures import GateFigures
from controlplane.lease_figures import LeaseFigures
from controlplane.otlp_export import QuietExporter
from deltaplane import tls
from deltaplane.tls_figures import Certificates
from deploy.monitoring.__main__ import HERE, derived
from nodeagent.drain.figures import DrainFigures
from nodeagent.metrics.registry import Metrics
from nodeagent.stream.journal import Journal
from tests.unit.controlplane.test_metrics import Page

RULES: dict[str, Any] = yaml.safe_load((HERE / "rules.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
RUNBOOK = HERE.parents[1] / "docs" / "runbook.md"
PARTS = ("**What it means.**", "**How to look.**", "**What to do.**")
OF_PROMETHEUS = {"up"}
NAMED = re.compile(r"\b(?:(?:deltaplane|kubeproxy|process)_[a-z0-9_]+|deltaplane:[a-z0-9_:]+|up(?=\{))")


def queries() -> dict[str, str]:
    """Every PromQL expression, by where it stands."""
    found = {f"rules: {each.get('alert', each.get('record'))}": each["expr"]
             for group in RULES["groups"] for each in group["rules"]}  # fmt: skip
    for path in sorted((HERE / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found |= {f"{path.stem}: {panel['title']} {each['refId']}": each["expr"] for each in panel["targets"]}
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of series in the exposition of both programs."""
    agent = Metrics()
    agent.watch({})
    agent.chose("auto", "nftables", fell_back=False)
    agent.shows(tls.Kept(tls.Files()))
    agent.keeps(Journal(tmp_path_factory.mktemp("journal")))
    plane = Page()
    plane.registry.register(EndpointsFigures(Runner(None, ("endpointslice",), plane.requests, plane.report)))
    own = CollectorRegistry()
    own.register(Certificates(tls.Kept(tls.Files())))
    own.register(LeaseFigures(lambda: ()))
    own.register(GateFigures(int, float))
    own.register(DrainFigures(int))
    own.register(QuietExporter(InMemorySpanExporter(), ""))
    return {name for registry in (agent.registry, plane.registry, own) for name in series(registry)}


def series(registry: CollectorRegistry) -> set[str]:
    """With the endings that each type has, also where there is no sample yet."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {metric.name + ending for metric in registry.collect() for ending in endings[metric.type]}


def test_every_metric_that_rules_and_dashboards_name_is_in_the_exposition_of_the_programs(shown: set[str]) -> None:
    known = shown | RECORDED | OF_PROMETHEUS | {"process_resident_memory_bytes", "process_cpu_seconds_total"}
    named = {where: set(NAMED.findall(query)) for where, query in queries().items()}

    assert len(named) > 60
    assert {where: names - known for where, names in named.items() if names - known} == {}


def test_every_alert_says_how_bad_it_is_and_has_a_section_in_the_runbook_and_no_section_is_of_none() -> None:
    text = RUNBOOK.read_text()
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE))

    assert set(sections) == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert [part in sections[name] for part in PARTS] == [True] * 3, name
        assert re.search(r"^(deltaplane|kubectl) ", sections[name], re.MULTILINE), name


def test_every_anchor_that_a_document_links_to_exists() -> None:
    docs = RUNBOOK.parent
    for name in ("runbook.md", "operating.md"):
        for file, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", (docs / name).read_text()):
            target = (docs / (file or name)).read_text()
            titles = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
                      for line in re.findall(r"^#+ (.*)$", target, re.MULTILINE)}  # fmt: skip
            assert anchor in titles, f"{name} -> {file}#{anchor}"


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tests = yaml.safe_load((HERE / "rules-test.yaml").read_text())["tests"]
    fired = {sample["labels"] for test in tests for each in test["promql_expr_test"] for sample in each["exp_samples"]}

    assert fired == {f'{{alertname="{name}"}}' for name in ALERTS}


def test_what_is_derived_of_the_rules_and_the_panels_is_as_they_say() -> None:
    assert {path.name: path.read_text() for path in derived()} == {path.name: text for path, text in derived().items()}
    assert {path.name for path in (HERE / "dashboards").iterdir()} == {p.name for p in derived() if p.suffix == ".json"}


def test_dashboards_have_a_place_for_each_panel_and_none_over_another() -> None:
    for path in sorted((HERE / "dashboards").glob("*.json")):
        panels = json.loads(path.read_text())["panels"]
        cells = [(x, y) for each in panels for place in [each["gridPos"]]
                 for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])]  # fmt: skip
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24
        assert all(each["description"] for each in panels)


def test_the_component_opens_the_ports_that_are_scraped() -> None:
    text = (HERE / "kustomization.yaml").read_text()
    monitors = list(yaml.safe_load_all((HERE / "podmonitors.yaml").read_text()))
    jobs = {each["replacement"] for monitor in monitors for each in
            monitor["spec"]["podMetricsEndpoints"][0]["relabelings"] if each["targetLabel"] == "job"}  # fmt: skip

    assert {f'job="{job}"' for job in jobs} <= set(re.findall(r'job="[\w-]+"', (HERE / "rules.yaml").read_text()))
    assert "--metrics-listen=" in text
    assert "--metrics-bind-address=" in text
    assert Path(HERE / "prometheusrule.yaml").name in text
