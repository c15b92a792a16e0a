"""Kubernetes' own end-to-end specs, run against the cluster by the upstream program. Called by tests/cluster.

It runs on the API server's host, which reaches Pods and node ports as a client outside does. Its JUnit report is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tools.lab import parts
from tools.lab.cluster.cluster import Cluster
from tools.lab.process import Process

# What two nodes without a cloud can show of Services.
FOCUS = r"\[sig-network\] (Services|EndpointSlice)"
SKIP = r"\[Slow\]|\[Disruptive\]|\[Serial\]|LoadBalancer|\[Feature|NetworkPolicy"
FEW = (
    "should serve a basic endpoint from pods",
    "should be able to create a functioning NodePort service",
    "should have session affinity work for service with type clusterIP",
    "should be updated after adding or deleting ports",
    "should be rejected when no endpoints exist",
)
SMOKE = rf"\[sig-network\] Services ({'|'.join(FEW)})"
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
_OUTCOMES = {"failure": FAILED, "error": FAILED, "skipped": SKIPPED}  # by the element that a case has


@dataclass(frozen=True)
class Spec:
    """One spec's outcome; `said` is the failure's message, or why the spec skipped itself."""

    name: str
    outcome: str
    seconds: float
    said: str = ""


def run(cluster: Cluster, folder: Path, focus: str = FOCUS, limit: float = 3000) -> list[Spec]:
    """Every spec that the expression chooses, in the order of names. The log is FOLDER/e2e.log.

    Raises `ProcessFailed` where the program gives no report in time.
    """
    command: list[str | Path] = [
        parts.find("e2e.test"),
        "--provider=skeleton",
        f"--kubeconfig={cluster.api.admin_kubeconfig}",
        f"--num-nodes={len(cluster.nodes)}",
        f"--kubectl-path={parts.find('kubectl')}",
        f"--ginkgo.focus={focus}",
        f"--ginkgo.skip={SKIP}",
        "--ginkgo.no-color",
        "--ginkgo.v",
        "--disable-log-dump",
        f"--report-dir={folder}",
    ]
    process = Process("e2e.test", command, folder / "e2e.log", cluster.api.host.space)
    process.wait_until(lambda: report_of(folder), limit, "writing its report")
    process.wait_end(60)
    return read(report_of(folder)[0])


def report_of(folder: Path) -> list[Path]:
    """The report, once it is whole."""
    return [path for path in folder.glob("junit*.xml") if path.read_text().rstrip().endswith("</testsuites>")]


def read(report: Path) -> list[Spec]:
    """The specs that ran; those that were not chosen are left out."""
    cases = ET.parse(report).iter("testcase")  # noqa: S314 - written by our own program
    return sorted((_spec(case) for case in cases if _ran(case)), key=lambda spec: spec.name)


def _ran(case: ET.Element) -> bool:
    """Whether it was chosen: what skips itself as it runs says why."""
    return case.get("name", "").startswith("[It]") and (case.get("status") != SKIPPED or bool(_reason(case)))


def _spec(case: ET.Element) -> Spec:
    name = re.sub(r"\s*\[sig-network(, [^\]]*)?\]$", "", case.get("name", "").removeprefix("[It] "))
    outcome = next((name for tag, name in _OUTCOMES.items() if case.find(tag) is not None), PASSED)
    return Spec(name, outcome, round(float(case.get("time", 0)), 1), _reason(case))


def _reason(case: ET.Element) -> str:
    """What its failure, error or skip says, but for the word that stands there for nothing."""
    said = [problem.get("message") or problem.text or "" for tag in _OUTCOMES for problem in case.iter(tag)]
    return " ".join(said).strip().removeprefix("skipped").removeprefix(" - ")


def failures(specs: Sequence[Spec]) -> dict[str, str]:
    """What failed, and how."""
    return {spec.name: spec.said for spec in specs if spec.outcome == FAILED}
