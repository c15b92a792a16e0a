"""Packet traces of Services on a fresh in-memory kernel, and the words to say what should come of them."""

from __future__ import annotations

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.settings import Settings
from tests.fakes.nftables.memory import MemoryKernel
from tests.fakes.nftables.trace import Packet, Trace, trace
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, SETTINGS, packed, targets

POD, HOST, OUTSIDE, BLOCKED = "10.180.1.77", "192.168.0.2", "203.0.113.2", "203.0.113.130"
OTHER_POD = "10.180.2.77"  # of another node
LOCAL_NODE = (packed(HOST), packed("192.168.1.2"), packed("127.0.0.1"), packed("2001:db8::2"), packed("::1"))


def programmed(
    *services: ServiceForwarding, settings: Settings = SETTINGS, node: NodeForwarding = NODE
) -> tuple[NftablesDataplane, MemoryKernel]:
    """A dataplane that has these Services in its kernel."""
    kernel = MemoryKernel()
    dataplane = NftablesDataplane(kernel, settings)
    dataplane.start()
    assert dataplane.apply(services, node, complete=True).failed == ()
    return dataplane, kernel


def send(kernel: MemoryKernel, *, source: str, to: str, port: int, protocol: int = 6, interface: str = "eth0") -> Trace:
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
