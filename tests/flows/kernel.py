"""Column 3: the product's dataplane on a real kernel, and real packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from nodeagent.conntrack.cleaner import Cleaner
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.program.dataplane import Commit
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
    product, found = Product(scenario), list[Difference]()
    with _machine(network, scenario) as machine, closing(Clients(network)) as clients:
        begin(machine, product)
        for number, step in enumerate(scenario.steps, 1):
            found += commit(machine, product, number, step)
            prepare(network, step, scenario.family)
            found += clients.differences(number, step)
    return found


class Machine:
    """The node's kernel as the agent works on it: the program, and then the flows that the change has made stale."""

    def __init__(self, dataplane: NftablesDataplane, cleaner: Cleaner) -> None:
        self._dataplane, self._cleaner = dataplane, cleaner

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        """As `Dataplane.apply`."""
        self._cleaner.want(services, node, complete=complete)
        done = self._dataplane.apply(services, node, complete=complete)
        self._cleaner.commit({failed.key for failed in done.failed})
        self._cleaner.clean()
        return done


@contextmanager
def _machine(network: Network, scenario: Scenario) -> Iterator[Machine]:
    wanted = settings(scenario.view)
    with network.node.entered():
        made, table = NftablesDataplane(NetlinkKernel(), wanted), NetlinkTable()
    with closing(table), closing(made):
        made.start()
        yield Machine(made, Cleaner(table))
    network.clean()
