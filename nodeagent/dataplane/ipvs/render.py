"""What a Service means in IPVS: a pure function of its forwarding entries, the node's addresses and the settings.

Called by `desired`. Knows kube-proxy's sets and which of them an address belongs in; not messages, not the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from msgspec import Struct

from deltaplane.forwarding import Entry, FrontendKind, Masquerade, ServiceForwarding, Verdict
from deltaplane.model import Protocol, family_of
from nodeagent.dataplane import widths
from nodeagent.dataplane.ipvs import names
from nodeagent.dataplane.ipvs.names import Element, place
from nodeagent.dataplane.ipvs.objects import Manner, Virtual, VirtualKey
from nodeagent.dataplane.ipvs.settings import PERSISTENT, Settings
from nodeagent.linux.text import network


class NodeAddresses(Struct, frozen=True):
    """This node's own addresses: those its node ports answer on, and all that other links than ours have.

    `neighbours` are those of other Nodes. On our link they would be this node's: answers to that Node would end on this
    one, and its other ports be refused (kube-proxy does that). `desired` changes this set.
    """

    node_ports: dict[int, tuple[bytes, ...]] = {}  # by family
    others: frozenset[bytes] = frozenset()
    neighbours: AbstractSet[bytes] = frozenset()


def virtuals(
    service: ServiceForwarding, node: NodeAddresses, settings: Settings, families: Iterable[int] = (4, 6)
) -> dict[VirtualKey, Virtual]:
    """Everything of a Service that clients can connect to. Raises ValueError for an entry that no set can hold."""
    found: dict[VirtualKey, Virtual] = {}
    for entry in service.entries:
        frontend = entry.frontend
        if frontend.family not in families:
            continue
        widths.check(entry)
        own = frontend.kind == FrontendKind.NODE_PORT
        for address in node.node_ports.get(frontend.family, ()) if own else (frontend.address,):
            key = VirtualKey(frontend.family, frontend.protocol, address, frontend.port)
            found.setdefault(key, _virtual(entry, key, node, settings))
    return found


def extras(service: ServiceForwarding, families: Iterable[int] = (4, 6)) -> tuple[Element, ...]:
    """What a Service needs besides: its hairpin connections and its health check's port. Raises ValueError."""
    found = []
    widths.check_hairpins(service.hairpins)
    for address, protocol, port in service.hairpins:
        family = family_of(address)
        if family in families:
            found.append(Element(family, names.LOOP_BACK, place(address, protocol, port) + address))
    if service.health_check is not None:
        port_key = service.health_check.port.to_bytes(2, "big")
        found += [Element(family, names.HEALTH_CHECK, port_key) for family in families]
    return tuple(found)


def _virtual(entry: Entry, key: VirtualKey, node: NodeAddresses, settings: Settings) -> Virtual:
    sticky = PERSISTENT if entry.affinity_seconds else 0
    manner = Manner(settings.how, settings.flags | sticky, entry.affinity_seconds)
    targets = None if entry.verdict is Verdict.DROP else entry.targets
    outside = entry.local_targets
    if outside is not None and (outside == entry.targets or entry.external_verdict is Verdict.DROP or targets is None):
        outside = None
    return Virtual(manner, targets, outside, tuple(_elements(entry, key, node)))


def _elements(entry: Entry, key: VirtualKey, node: NodeAddresses) -> Iterator[Element]:
    family, protocol, address, port = key
    where = place(address, protocol, port)
    if entry.frontend.kind == FrontendKind.NODE_PORT:
        number = where if protocol == Protocol.SCTP else port.to_bytes(2, "big")
        yield from (Element(family, name, number) for name in _node_port_sets(entry, protocol))
    else:
        yield from (Element(family, name, where) for name in _sets(entry))
        if address not in node.others and address not in node.neighbours:
            yield Element(family, names.IPVS_IPS, address)
            yield Element(family, names.ADDRESS, address)
    if entry.verdict is Verdict.DROP:
        yield Element(family, names.DROP, where)
    elif entry.verdict is Verdict.REJECT and (family, protocol) == (6, Protocol.TCP):
        yield Element(family, names.RESET, where)
    elif entry.local_targets is not None and entry.external_verdict is Verdict.DROP:
        yield Element(family, names.DROP_OUTSIDE, where)
    if entry.source_ranges:
        yield Element(family, names.LOAD_BALANCER_FW, where)
        yield from (_range(text, family, address, where) for text in entry.source_ranges)


def _node_port_sets(entry: Entry, protocol: int) -> Iterator[str]:
    yield names.NODE_PORT[protocol]
    if entry.masquerade is Masquerade.NODE_ONLY:
        yield names.NODE_PORT_LOCAL[protocol]


def _sets(entry: Entry) -> Iterator[str]:
    kind, local = entry.frontend.kind, entry.masquerade is Masquerade.NODE_ONLY
    if kind == FrontendKind.CLUSTER_IP:
        yield names.CLUSTER_IP
    elif kind == FrontendKind.EXTERNAL_IP:
        yield names.EXTERNAL_IP_LOCAL if local else names.EXTERNAL_IP
    else:
        yield names.LOAD_BALANCER
        if local:
            yield names.LOAD_BALANCER_LOCAL


def _range(text: str, family: int, address: bytes, where: bytes) -> Element:
    """An allowed source; the address itself is what this node has as its source towards it (G2)."""
    found = network(text)
    if found.version != family:
        raise ValueError(f"source range {text} is not of IPv{family}: correct loadBalancerSourceRanges")
    start = found.network_address.packed
    if found.prefixlen == found.max_prefixlen and start == address:
        return Element(family, names.SOURCE_IP, where + address)
    if not found.prefixlen:
        raise ValueError(f"source range {text} is everything: leave it out")
    return Element(family, names.SOURCE_CIDR, where + start + bytes((found.prefixlen,)))
