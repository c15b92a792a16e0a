"""Five of Kubernetes' own specs, as a smoke; all of them are `make test-upstream`."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.installed import Deltaplane
from tools.lab.cluster import suite
from tools.lab.cluster.cluster import Cluster


def test_specs_of_services_pass(cluster: Cluster, deltaplane: Deltaplane, tmp_path: Path) -> None:
    specs = suite.run(cluster, tmp_path, suite.SMOKE, limit=600)

    assert suite.failures(specs) == {}
    assert len(specs) == len(suite.FEW)
