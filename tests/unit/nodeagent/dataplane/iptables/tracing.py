"""Packet traces of Services on a fresh in-memory iptables, and the words to say what should come of them."""

from __future__ import annotations

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.settings import Settings
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.iptables.trace import trace
from tests.fakes.nftables.trace import Packet, Trace
from tests.unit.nodeagent.dataplane.nftables.tracing import LOCAL_NODE
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, packed

CIDRS = ("10.180.0.0/16", "fd00:10:180::/48")
SETTINGS = Settings(CIDRS)


def started(kernel: MemoryIptables, settings: Settings = SETTINGS) -> IptablesDataplane:
    dataplane = IptablesDataplane(kernel, settings)
    dataplane.start()
    return dataplane


def programmed(
    *services: ServiceForwarding, settings: Settings = SETTINGS, node: NodeForwarding = NODE
) -> tuple[IptablesDataplane, MemoryIptables]:
    """A dataplane that has these Services in its kernel."""
    kernel = MemoryIptables()
    dataplane = started(kernel, settings)
    assert dataplane.apply(services, node, complete=True).failed == ()
    return dataplane, kernel


def send(
    kernel: MemoryIptables, *, source: str, to: str, port: int, protocol: int = 6, interface: str = "eth0"
) -> Trace:
    """Where a new connection may end."""
    arrives = "" if packed(source) in LOCAL_NODE else interface
    packet = Packet(packed(source), packed(to), protocol, port, interface=arrives)
    return trace(kernel, packet, node=LOCAL_NODE)


def follow(
    *services: ServiceForwarding,
    source: str,
    to: str,
    port: int,
    protocol: int = 6,
    settings: Settings = SETTINGS,
    node: NodeForwarding = NODE,
    interface: str = "eth0",
) -> Trace:
    """The same, on a kernel with these Services."""
    _, kernel = programmed(*services, settings=settings, node=node)
    return send(kernel, source=source, to=to, port=port, protocol=protocol, interface=interface)


def sorted_tables(kernel: MemoryIptables) -> dict[tuple[int, str], dict[str, list[str]]]:
    """Every chain with its rules, the shared ones' in no order but that of their last rule."""
    return {
        where: {name: sorted(rules) if name.startswith("KUBE-") else rules for name, rules in chains.items()}
        for where, chains in kernel.tables.items()
    }
