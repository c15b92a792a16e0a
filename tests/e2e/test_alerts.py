"""promtool takes the alert rules and the dashboards' queries, and each alert fires by what it is for and alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.monitoring.__main__ import HERE
from tests.unit.deploy.test_monitoring import queries
from tools.lab import parts


def promtool(*arguments: str | Path) -> str:
    """What it says; skips where it is not built."""
    return said("promtool", *arguments)


def said(name: str, *arguments: str | Path) -> str:
    try:
        program = parts.find(name)
    except parts.PartMissing as error:
        pytest.skip(str(error))
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_takes_every_rule() -> None:
    assert "rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", HERE / "rules.yaml")


def test_each_alert_fires_by_what_it_is_for_and_none_while_all_is_well() -> None:
    assert "SUCCESS" in promtool("test", "rules", HERE / "rules-test.yaml")


def test_the_component_adds_the_rules_what_is_scraped_and_the_ports_for_it(tmp_path: Path) -> None:
    layers = {"resources": HERE.parent / "kustomize" / "example", "components": HERE}
    overlay = {kind: [os.path.relpath(path, tmp_path.resolve())] for kind, path in layers.items()}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    found = [each for each in yaml.safe_load_all(said("kubectl", "kustomize", tmp_path)) if each]

    kinds = [each["kind"] for each in found]
    assert (kinds.count("PrometheusRule"), kinds.count("PodMonitor")) == (1, 2)
    for name, flag in (("controlplane", "--metrics-listen=["), ("agent", "--metrics-bind-address=[")):
        (workload,) = [
            each for each in found if each["kind"] == "DaemonSet" and each["metadata"]["name"].endswith(name)
        ]
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        assert [word for word in container["args"] if word.startswith(flag)]
        assert "metrics" in {port["name"] for port in container["ports"]}


def test_promtool_takes_every_query_of_the_dashboards(tmp_path: Path) -> None:
    asked = [query.replace("$__rate_interval", "5m").replace("$node", "a") for query in queries().values()]
    rules = [{"record": f"panel:query{number}", "expr": query} for number, query in enumerate(asked)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(asked)} rules found" in promtool("check", "rules", file)
