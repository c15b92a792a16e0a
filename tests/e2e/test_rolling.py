"""A rolling restart of twenty Pods under load, whose hooks ask the node when nobody sends to them any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.rolling import manager, rolled
from tests.e2e.shop import deployed
from tests.rolled import PODS
from tools.lab.parts import PartMissing, find


@pytest.mark.slow
@pytest.mark.usefixtures("objects")
def test_a_rolling_restart_with_drain_on_ack_loses_no_connection_and_sleeps_for_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    try:
        find("kube-controller-manager")
    except PartMissing as missing:
        pytest.skip(str(missing))
    source = ("--source=kubernetes", f"--kubeconfig={cluster.kubeconfig}")
    with (
        deployed(cluster.fabric, tmp_path, *source, agent_flags=("--drain-listen=0.0.0.0",)) as line,
        manager(cluster.api, cluster.fabric, tmp_path),
    ):
        found, lab = rolled(cluster.fabric, cluster.api, "Deltaplane", "drain", line.settle)

    assert found.failures == {}
    assert found.answered > 10 * PODS
    assert len(lab.drained) == 2 * PODS
    assert {status for _, status in lab.drained} == {"200"}
