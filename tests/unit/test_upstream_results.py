"""What is made of the upstream program's report: outcomes, reasons, and the document that compares proxies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import upstream
from tools.lab.cluster import suite
from tools.lab.cluster.suite import FAILED, PASSED, SKIPPED, Spec

REPORT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite>
  <testcase name="[BeforeSuite]" status="passed" time="1"></testcase>
  <testcase name="[It] [sig-network] Services should work [Conformance] [sig-network, Conformance]"
    status="passed" time="2.04"/>
  <testcase name="[It] [sig-network] Services should refuse [sig-network]" status="failed" time="3">
    <failure message="" type="failed">[FAILED] it answered&#xA;more of it</failure>
  </testcase>
  <testcase name="[It] [sig-network] Services should want more [sig-network]" status="skipped" time="0">
    <skipped message="skipped - Need at least 3 nodes"></skipped>
  </testcase>
  <testcase name="[It] [sig-storage] something else [sig-storage]" status="skipped" time="0">
    <skipped message="skipped"></skipped>
  </testcase>
</testsuite></testsuites>
"""


def test_a_report_is_read_with_reasons_and_without_what_was_not_chosen(tmp_path: Path) -> None:
    (tmp_path / "junit_01.xml").write_text(REPORT)

    specs = suite.read(suite.report_of(tmp_path)[0])

    assert specs == [
        Spec("[sig-network] Services should refuse", FAILED, 3.0, "[FAILED] it answered\nmore of it"),
        Spec("[sig-network] Services should want more", SKIPPED, 0.0, "Need at least 3 nodes"),
        Spec("[sig-network] Services should work [Conformance]", PASSED, 2.0),
    ]


def test_half_a_report_is_none(tmp_path: Path) -> None:
    (tmp_path / "junit_01.xml").write_text(REPORT[:200])

    assert suite.report_of(tmp_path) == []


def result(**outcomes: str) -> dict[str, Any]:
    said = {name: f"{name} because" for name, outcome in outcomes.items() if outcome != PASSED}
    return {"date": "2026-01-02", "kubernetes": "1.36.3", "seconds": 3, "specs": outcomes, "said": said}


def test_the_document_compares_what_was_run_and_says_what_was_not() -> None:
    text = upstream.document({
        ("kube-proxy", "nftables"): result(one=PASSED, two=PASSED, three=SKIPPED),
        ("deltaplane", "nftables"): result(one=PASSED, two=FAILED, three=SKIPPED),
    })  # fmt: skip

    assert "| passed | 2 of 2 | 1 of 2 |" in text
    assert "| two | passed | failed |" in text
    assert "Not run: Deltaplane with its endpoints controllers in nftables mode, kube-proxy in iptables mode, " in text
    assert "* Deltaplane, nftables, failed: two: two because" in text


def test_worse_is_what_fails_that_passes_with_kube_proxy() -> None:
    specs = [Spec("one", FAILED, 1), Spec("two", FAILED, 1), Spec("three", PASSED, 1), Spec("four", SKIPPED, 1)]

    assert upstream.worse(specs, result(one=PASSED, two=FAILED, three=PASSED)) == ["one"]
    assert upstream.worse(specs, None) == ["one", "two"]


def test_the_smoke_is_five_of_the_specs_that_the_whole_run_has() -> None:
    (whole,) = (kept for column, kept in upstream.kept().items() if column == ("deltaplane", "nftables"))

    chosen = [name for name in whole["specs"] if re.search(suite.SMOKE, name) and not re.search(suite.SKIP, name)]

    assert len(chosen) == len(suite.FEW) == 5


def test_the_endpoints_controllers_are_run_in_nftables_mode_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [upstream.__file__, "--proxy=deltaplane-endpoints", "--mode=iptables", "--smoke"])

    with pytest.raises(SystemExit) as ended:
        upstream.main()

    assert ended.value.code == 2
    assert "--proxy=deltaplane-endpoints goes with --mode=nftables" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 3), (["--smoke"], 0), (["--focus=Services"], 3)])
def test_where_no_cluster_can_run_the_smoke_is_skipped_as_a_test_is_and_a_run_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    monkeypatch.setattr("tools.lab.cluster.cluster.unavailable", lambda: "no cgroups here")
    monkeypatch.setattr("sys.argv", ["upstream", *arguments])

    assert upstream.main() == code
    assert capsys.readouterr().err == "upstream: skipped: no cgroups here\n"
