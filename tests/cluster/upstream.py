"""`python -m tests.cluster.upstream`: the upstream specs with one proxy; keeps results, writes docs/conformance.md.

Results are kept per proxy and mode in tests/cluster/results, with their date: the document shows those that there are,
so one run does not need the others. With `--proxy=deltaplane-endpoints` Deltaplane's control plane makes EndpointSlices
and Endpoints too, in place of kube-controller-manager. `--smoke` runs five specs and keeps nothing. Exit code 1 where a
spec fails that passes with kube-proxy, or none was run; 3 where no cluster can run here, but 0 with `--smoke`, which is
then skipped as tests are.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cluster.installed import Deltaplane
from tools.lab import controllers, kubeproxy
from tools.lab.cluster import cluster as clusters
from tools.lab.cluster import product, suite
from tools.lab.cluster.cluster import Cluster

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCUMENT = HERE.parents[1] / "docs" / "conformance.md"
ENDPOINTS = "deltaplane-endpoints"
PROXIES = {
    "kube-proxy": "kube-proxy",
    "deltaplane": "Deltaplane",
    ENDPOINTS: "Deltaplane with its endpoints controllers",
}
COLUMNS = [(proxy, "nftables") for proxy in PROXIES] + [("kube-proxy", "iptables"), ("deltaplane", "iptables")]
VERSION = "1.36.3"

Result = dict[str, Any]


def main() -> int:
    said = _arguments()
    if said.write:
        DOCUMENT.write_text(document(kept()))
        return 0
    reason = clusters.unavailable()
    if reason:
        _say(f"skipped: {reason}")
        return 0 if said.focus == suite.SMOKE else 3
    return _judged(said.proxy, said.mode, said.focus)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.upstream", description=__doc__)
    parser.add_argument("--proxy", choices=PROXIES, default="deltaplane")
    parser.add_argument("--mode", choices=["nftables", "iptables"], default="nftables")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--focus", default=suite.FOCUS, help="which specs; with another than the usual nothing is kept")
    which.add_argument("--smoke", dest="focus", action="store_const", const=suite.SMOKE, help="five specs")
    parser.add_argument("--write", action="store_true", help="only write the document from the results there are")
    said = parser.parse_args()
    if (said.proxy, said.mode) not in COLUMNS:
        parser.error(f"--proxy={said.proxy} goes with --mode=nftables")
    return said


def _judged(proxy: str, mode: str, focus: str) -> int:
    """Runs them, says what came of it, keeps it where all were run; the exit code."""
    began = time.monotonic()
    specs = _run(proxy, mode, focus)
    for name, message in suite.failures(specs).items():
        _say(f"failed: {name}\n  {message}")
    passed = sum(spec.outcome == suite.PASSED for spec in specs)
    _say(f"{passed} of {len(specs)} specs passed; {time.monotonic() - began:.0f} s from nothing")
    if focus == suite.FOCUS:
        _keep(proxy, mode, specs)
        DOCUMENT.write_text(document(kept()))
    return 1 if not specs or worse(specs, kept().get(("kube-proxy", mode))) else 0


def _run(proxy: str, mode: str, focus: str) -> list[suite.Spec]:
    archives = [] if proxy == "kube-proxy" else [product.made()]
    without = controllers.ENDPOINTS if proxy == ENDPOINTS else ()
    with (
        clusters.running(archives, without) as cluster,
        tempfile.TemporaryDirectory(prefix="deltaplane-upstream-") as folder,
    ):
        _install(cluster, proxy, mode)
        _say(f"the specs are running{' (20 minutes)' if focus == suite.FOCUS else ''}; log in {folder}/e2e.log")
        return suite.run(cluster, Path(folder), focus)


def _install(cluster: Cluster, proxy: str, mode: str) -> None:
    if proxy != "kube-proxy":
        Deltaplane(cluster).apply("endpoints" if proxy == ENDPOINTS else mode)
        return
    for place in cluster.fabric.nodes:
        kubeproxy.start(place, cluster.api.admin_kubeconfig, cluster.run.folder, mode)


def worse(specs: list[suite.Spec], reference: Result | None) -> list[str]:
    """What fails and passed with kube-proxy; what it was never run for counts as passed."""
    known = reference["specs"] if reference else {}
    return [name for name in suite.failures(specs) if known.get(name, suite.PASSED) == suite.PASSED]


def _keep(proxy: str, mode: str, specs: list[suite.Spec]) -> None:
    result: Result = {"date": dt.datetime.now(dt.UTC).date().isoformat(), "kubernetes": VERSION}
    result |= {"seconds": round(sum(spec.seconds for spec in specs)), "specs": {s.name: s.outcome for s in specs}}
    result |= {"said": {spec.name: spec.said for spec in specs if spec.said}}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{proxy}-{mode}.json").write_text(json.dumps(result, indent=1) + "\n")


def kept() -> dict[tuple[str, str], Result]:
    """The results there are, by proxy and mode."""
    paths = {column: RESULTS / f"{column[0]}-{column[1]}.json" for column in COLUMNS}
    return {column: json.loads(path.read_text()) for column, path in paths.items() if path.exists()}


def document(results: dict[tuple[str, str], Result]) -> str:
    """docs/conformance.md of these results."""
    columns = [column for column in COLUMNS if column in results]
    names = sorted({name for result in results.values() for name in result["specs"]})
    heads = [f"{PROXIES[proxy]}, {mode}" for proxy, mode in columns]
    lines = [
        "# Kubernetes' own specs",
        "",
        "Written by `make test-upstream`: do not edit. Each column is a run of the upstream program `e2e.test` on the",
        "cluster of `make test-cluster`: two kubelets with containers on one machine, no cloud. Chosen are the specs",
        f"`{suite.FOCUS}` but `{suite.SKIP}`.",
        "The endpoints controllers make slices in kube-controller-manager's name, as one of the specs wants them",
        "(`--endpointslice-manager`).",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---|" + "---|" * len(heads),
        "| Kubernetes | " + " | ".join(results[column]["kubernetes"] for column in columns) + " |",
        "| run on | " + " | ".join(results[column]["date"] for column in columns) + " |",
        "| passed | " + " | ".join(_count(results[column]) for column in columns) + " |",
    ]
    missing = [f"{PROXIES[proxy]} in {mode} mode" for proxy, mode in COLUMNS if (proxy, mode) not in results]
    lines += ["", f"Not run: {', '.join(missing)}."] if missing else []
    lines += ["", "| spec | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for name in names:
        outcomes = [results[column]["specs"].get(name, "not run") for column in columns]
        lines.append(f"| {name.removeprefix('[sig-network] ')} | " + " | ".join(outcomes) + " |")
    lines += _reasons(results)
    return "\n".join(lines) + "\n"


def _reasons(results: dict[tuple[str, str], Result]) -> list[str]:
    """What specs that did not pass say."""
    lines = []
    for (proxy, mode), result in results.items():
        for name, said in sorted(result["said"].items()):
            short = name.removeprefix("[sig-network] ")
            first = said.partition("\n")[0]
            lines.append(f"* {PROXIES[proxy]}, {mode}, {result['specs'][name]}: {short}: {first}")
    return ["", "## What did not pass, and why", "", *lines] if lines else []


def _count(result: Result) -> str:
    ran = [outcome for outcome in result["specs"].values() if outcome != suite.SKIPPED]
    return f"{ran.count(suite.PASSED)} of {len(ran)}"


def _say(text: str) -> None:
    sys.stderr.write(f"upstream: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
