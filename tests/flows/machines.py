"""The product's dataplanes on a real kernel, opened as the agent opens them. Called by columns with real packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from nodeagent import config
from nodeagent.conntrack.cleaner import Cleaner
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.dataplane.api import Dataplane
from nodeagent.dataplane.modes import backend, open_dataplane
from nodeagent.dataplane.outcome import Commit
from nodeagent.errors import DataplaneUnavailable
from tests.flows.columns import Column
from tests.flows.network import Network
from tests.flows.product import cluster_cidrs
from tests.flows.scenario import NODE_NAME, View
from tests.flows.verdicts import NotHere
from tools.lab.netns import Namespace
from tools.lab.rules import hint, run


class Machine:
    """The node's kernel as the agent works on it: the program, and then the flows that the change has made stale."""

    def __init__(self, dataplane: Dataplane, cleaner: Cleaner, space: Namespace) -> None:
        self.dataplane, self._cleaner, self._space = dataplane, cleaner, space

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        """As `Dataplane.apply`."""
        self._cleaner.want(services, node, complete=complete)
        with self._space.entered():  # where the programs of some modes run
            done = self.dataplane.apply(services, node, complete=complete)
        self._cleaner.commit({failed.key for failed in done.failed})
        self._cleaner.clean()
        return done


@contextmanager
def machine(network: Network, column: Column, view: View) -> Iterator[Machine]:
    """A dataplane of the column's mode on a clean node; nothing of it is left afterwards."""
    network.clean()
    if column.flavour == "legacy":
        hint(network.node)
    with network.node.entered():
        dataplane = open_dataplane(settings(column.mode, view)).dataplane
        table = NetlinkTable()
        dataplane.start()
    with closing(table), closing(dataplane):
        yield Machine(dataplane, Cleaner(table), network.node)
    network.clean()


def try_here(network: Network, column: Column) -> None:
    """Raises NotHere where this machine cannot do the column's mode."""
    if column.flavour:
        for program in ("iptables", "ip6tables"):
            try:
                run(network.node, f"{program}-{column.flavour}", "-t", "nat", "-S")
            except (OSError, RuntimeError) as error:
                raise NotHere(f"{program}-{column.flavour} does not work: {error}") from error
    try:
        with network.node.entered():
            backend(column.mode).probe()
    except DataplaneUnavailable as error:
        raise NotHere(str(error)) from error


def settings(mode: str, view: View) -> config.AgentSettings:
    """What the agent's command line would say."""
    flags = ["--server=127.0.0.1:1", "--insecure", f"--hostname-override={NODE_NAME}", f"--proxy-mode={mode}"]
    flags += [f"--cluster-cidr={','.join(cluster_cidrs(view))}", f"--masquerade-all={str(view.masquerade_all).lower()}"]
    flags.append(f"--nodeport-addresses={','.join(view.nodeport_addresses)}")
    return config.in_mode(config.parse(flags), mode)
