"""The corpus with real packets through a real kernel in the other modes; each column has a network of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.flows import conformance
from tests.flows.corpus import scenarios

pytestmark = pytest.mark.kernel

OTHERS = ("iptables", "iptables-legacy", "userspace", "ipvs")
QUICK = ("cluster-ip-general-v4", "load-balancer-v6", "affinity-v4", "terminating-local-v6")
"""What the other modes are held to in every run of the tests."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("column", OTHERS)
def test_some_of_the_corpus_in_the_other_modes(column: str, tmp_path: Path) -> None:
    _run(column, tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("column", OTHERS)
def test_the_corpus_in_the_other_modes(column: str, tmp_path: Path) -> None:
    _run(column, tmp_path, ("",))


def _run(column: str, folder: Path, parts: tuple[str, ...]) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    chosen = [scenario for scenario in scenarios() if any(part in scenario.id for part in parts)]
    found = conformance.results(chosen, [column], folder, lambda _: None)
    results = [found[scenario.id, column] for scenario in chosen]
    if all(result.verdict == conformance.NOT_HERE for result in results):
        pytest.skip(results[0].notes[0])
    bad = [
        f"{name}: {' '.join(found[name, column].notes)}"
        for name, _ in found
        if found[name, column].verdict in conformance.BAD
    ]
    assert not bad, "\n".join(bad)
