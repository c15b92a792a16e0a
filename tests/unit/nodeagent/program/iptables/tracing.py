"""Packet traces of Services on a fresh in-memory iptables, and the words to say what should come of them."""

from __future__ import annotations

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from nodeagent.program.iptables.dataplane import IptablesDataplane
from nodeagent.program.iptables.memory import MemoryIptables
from nodeagent.program.iptables.settings import Settings
from nodeagent.program.iptables.trace import Packet, Trace, trace
from tests.unit.nodeagent.program.nftables.walks import NODE_ADDRESSES, packed, targets

CIDRS = ("10.180.0.0/16", "fd00:10:180::/48")
SETTINGS = Settings(CIDRS)
NODE = NodeForwarding(tuple(packed(text) for text in NODE_ADDRESSES))
POD, HOST, OUTSIDE, BLOCKED = "10.180.1.77", "192.168.0.2", "203.0.113.2", "203.0.113.130"
LOCAL_NODE = tuple(map(packed, (HOST, "192.168.1.2", "127.0.0.1", "2001:db8::2", "::1")))


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


def reaches(*numbers: int, masqueraded: bool, family: int = 4) -> Trace:
    ends = frozenset((t.address, t.port, masqueraded) for t in targets(*numbers, family=family))
    return Trace(ends, frozenset())


def stopped(verdict: str) -> Trace:
    return Trace(frozenset(), frozenset({verdict}))


def untouched(to: str, port: int) -> Trace:
    return Trace(frozenset({(packed(to), port, False)}), frozenset())


def sorted_tables(kernel: MemoryIptables) -> dict[tuple[int, str], dict[str, list[str]]]:
    """Every chain with its rules, the shared ones' in no order but that of their last rule."""
    return {
        where: {name: sorted(rules) if name.startswith("KUBE-") else rules for name, rules in chains.items()}
        for where, chains in kernel.tables.items()
    }
