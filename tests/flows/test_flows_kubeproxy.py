"""The corpus against kube-proxy itself, fed by a real API server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.flows import conformance
from tests.flows.corpus import scenarios
from tools.lab.parts import PartMissing

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


def test_kube_proxy_differs_only_where_it_is_known_to(tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    try:
        found = conformance.results(scenarios(), ["kube-proxy"], tmp_path, lambda _: None)
    except PartMissing as missing:
        pytest.skip(str(missing))
    bad = [f"{name}: {' '.join(found[name, column].notes)}" for name, column in found if _is_bad(found[name, column])]
    assert not bad, "\n".join(bad)


def _is_bad(result: conformance.Result) -> bool:
    return result.verdict in conformance.BAD
