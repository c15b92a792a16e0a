"""The corpus with real packets through a real kernel in nftables mode; the others are in test_flows_modes.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows import kernel
from tests.flows.columns import BY_NAME
from tests.flows.network import Network
from tests.flows.scenario import Scenario
from tests.flows.tiers import cases, holds, opened

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """One node, whose hosts come as scenarios name them."""
    yield from opened()


@pytest.mark.parametrize("scenario", cases("nftables"))
def test_kernel(scenario: Scenario, network: Network) -> None:
    holds(lambda given: kernel.run(given, network, BY_NAME["nftables"]), scenario)
