"""The corpus against kube-proxy itself, fed by a real API server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.flows import conformance
from tests.flows.columns import ALL
from tests.flows.corpus import scenarios

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("column", [column.name for column in ALL if column.theirs])
def test_kube_proxy_differs_only_where_it_is_known_to(tmp_path: Path, column: str) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    found = conformance.results(scenarios(), [column], tmp_path, lambda _: None)
    if all(result.verdict == conformance.NOT_HERE for result in found.values()):
        pytest.skip(next(iter(found.values())).notes[0])
    bad = [
        f"{name}: {' '.join(result.notes)}" for (name, _), result in found.items() if result.verdict in conformance.BAD
    ]
    assert not bad, "\n".join(bad)
