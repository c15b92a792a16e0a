"""Column 3: the product's dataplane on a real kernel, and real packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nodeagent.program.nftables.dataplane import NftablesDataplane
from nodeagent.program.nftables.kernel import NetlinkKernel
from tests.flows.interpreter import begin, commit
from tests.flows.network import Network
from tests.flows.packets import Clients, prepare, settle
from tests.flows.product import Product, settings
from tests.flows.scenario import Scenario
from tests.flows.verdicts import Difference


def run(scenario: Scenario, network: Network) -> list[Difference]:
    """Every flow that is not as the scenario says, and every step that cost too much. Raises `product.Missing`."""
    network.clean()
    settle(network, scenario)
    product = Product(scenario)
    found, clients = list[Difference](), Clients(network)
    with _dataplane(network, scenario) as dataplane:
        begin(dataplane, product)
        for number, step in enumerate(scenario.steps, 1):
            found += commit(dataplane, product, number, step)
            prepare(network, step, scenario.family)
            found += clients.differences(number, step)
    return found


@contextmanager
def _dataplane(network: Network, scenario: Scenario) -> Iterator[NftablesDataplane]:
    wanted = settings(scenario.view)
    with network.node.entered():
        made = NftablesDataplane(NetlinkKernel(), wanted)
    made.start()
    try:
        yield made
    finally:
        made.close()
        network.clean()
