"""A rolling restart of twenty Pods under load, whose hook asks the node when nobody sends to them any more."""

from __future__ import annotations

from tests.cluster.counted import SUMMARY
from tests.cluster.installed import Deltaplane
from tests.cluster.rolling import Rolling
from tests.cluster.shop import Shop
from tests.rolled import PODS


def test_a_rolling_restart_with_drain_on_ack_loses_no_connection_and_sleeps_for_nothing(
    deltaplane: Deltaplane, shop: Shop
) -> None:
    deltaplane.apply("drain")
    rolling = Rolling(deltaplane.cluster, shop)
    rolling.open("drain")
    try:
        rolled = rolling.restart("Deltaplane", "drain")
        SUMMARY.append(rolled.row())
    finally:
        rolling.close()
        deltaplane.apply("nftables")

    assert rolled.failures == {}
    assert rolled.answered > 10 * PODS
