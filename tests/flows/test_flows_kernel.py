"""The corpus with real packets through a real kernel."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.flows import kernel
from tests.flows.network import Network
from tests.flows.scenario import Scenario
from tests.flows.tiers import cases, holds

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """One node, whose hosts come as scenarios name them."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    made = Network()
    yield made
    made.close()


@pytest.mark.parametrize("scenario", cases("kernel"))
def test_kernel(scenario: Scenario, network: Network) -> None:
    holds(lambda given: kernel.run(given, network), scenario)
