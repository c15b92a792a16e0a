"""The product's columns with real packets: a dataplane on a real kernel, in any proxy mode."""

from __future__ import annotations

from contextlib import closing

from tests.flows.columns import Column
from tests.flows.interpreter import begin, commit
from tests.flows.machines import machine
from tests.flows.network import Network
from tests.flows.packets import Clients, prepare, settle
from tests.flows.product import Product
from tests.flows.scenario import Scenario
from tests.flows.verdicts import Difference


def run(scenario: Scenario, network: Network, column: Column) -> list[Difference]:
    """Every flow that is not as the scenario says, and every step that cost too much. Raises `product.Missing`."""
    settle(network, scenario)
    product, found = Product(scenario), list[Difference]()
    with machine(network, column, scenario.view) as node, closing(Clients(network)) as clients:
        begin(node, product)
        for number, step in enumerate(scenario.steps, 1):
            found += commit(node, product, number, step, counted=column.mode == "nftables")
            prepare(network, step, scenario.family)
            found += clients.differences(number, step)
    return found
