"""The product's own explanation against the corpus: every flow of every scenario, with a reason for each decision."""

from __future__ import annotations

from functools import partial

import pytest

from tests.flows import explained
from tests.flows.corpus import scenarios
from tests.flows.dialects import heard
from tests.flows.scenario import Scenario
from tests.flows.tiers import cases, holds
from tests.flows.verdicts import explanation

OTHERS = ("iptables", "ipvs", "userspace")
OWN_WAYS = frozenset({
    "cluster-ip-unallocated", "external-ip", "hairpin-without-node", "host-network", "load-balancer",
    "load-balancer-shared", "no-endpoints-refused", "nodeports-loopback", "nodeports-other-family", "policies",
})  # fmt: skip
"""What modes other than nftables do in their own ways is in these scenarios."""


@pytest.mark.parametrize("scenario", cases("model"))
def test_an_explanation_says_what_the_scenario_says_and_why(scenario: Scenario) -> None:
    holds(explained.run, scenario)


def _in(mode: str, scenario: Scenario) -> bool:
    """Whether the mode holds the scenario as it stands."""
    return not scenario.reason_not_in(mode) and not explanation(mode, scenario)


@pytest.mark.parametrize("mode", OTHERS)
@pytest.mark.parametrize(
    "scenario",
    [pytest.param(each, id=each.id, marks=[] if each.name in OWN_WAYS else [pytest.mark.slow]) for each in scenarios()],
)
def test_an_explanation_knows_what_each_mode_does_in_its_own_way(scenario: Scenario, mode: str) -> None:
    if not _in(mode, scenario):
        pytest.skip(scenario.reason_not_in(mode) or explanation(mode, scenario))
    holds(partial(explained.run, mode=mode), heard(scenario, mode)[0])
