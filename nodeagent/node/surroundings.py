"""The addresses and pod ranges of the cluster's Nodes. A change costs what changed; `node_info` owns it.

Backends must not treat these as this node's: an address of another Node leads to that Node even if a Service names it,
and one that lies in a ServiceCIDR by mistake is no unallocated ClusterIP (F6). Neither is what is reserved: a node that
drops what it sends to its control plane could not be told that the ServiceCIDR is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple, TypeVar

from deltaplane.model import Node

# No Service has any of these, whatever a ServiceCIDR says: the machine itself, its links, and several at once.
NEVER = (
    "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",
    "::1/128", "fe80::/10", "ff00::/8",
)  # fmt: skip

T = TypeVar("T")
Network = IPv4Network | IPv6Network


class Moved(NamedTuple):
    """The effect of a change of Nodes."""

    come: tuple[bytes, ...] = ()  # addresses that another Node has now and none had before
    gone: tuple[bytes, ...] = ()  # addresses that no other Node has any more
    inside: bool = False  # `Surroundings.inside` has changed
    elsewhere: bool = False  # this node's pods are found to be outside of its pod CIDRs


class Surroundings:
    """As the node `name` sees it. `pods`: the ranges of --cluster-cidr."""

    def __init__(self, name: str, pods: Iterable[str] = ()) -> None:
        self._name = name
        self._nodes: dict[str, Node] = {}
        self._neighbours: Counter[bytes] = Counter()  # addresses of other Nodes, by how many have them
        self._networks: Counter[str] = Counter([*(text.strip() for text in pods), *NEVER])  # of Nodes, pods and others
        self._reserved: dict[str, frozenset[str]] = {}
        self._service_cidrs: tuple[Network, ...] = ()
        self._inside: set[str] = set()

    @property
    def inside(self) -> tuple[str, ...]:
        """Networks of Nodes, pods and others that lie in a ServiceCIDR, sorted; empty in a correct cluster."""
        return tuple(sorted(self._inside))

    def examples(self, most: int = 3) -> Sequence[str]:
        """Some of `inside`, with the Node that has it."""
        shown = self.inside[:most]
        owners = {network: name for name, node in self._nodes.items() for network in _networks(node)}
        return [f"{network} (Node {owners[network]})" if network in owners else network for network in shown]

    def reserve(self, what: str, addresses: Iterable[bytes]) -> bool:
        """These are no Services' either; `what` they are had others before. Returns whether `inside` has changed."""
        before, after = self._reserved.get(what, frozenset()), frozenset(map(_single, addresses))
        self._reserved[what], was = after, self._inside.copy()
        for network in before ^ after:
            _count(self._networks, network, 1 if network in after else -1)
            self._place(network)
        return self._inside != was

    def take(
        self, nodes: Mapping[str, Node], names: Iterable[str] | None, service_cidrs: Sequence[str] | None
    ) -> Moved:
        """The Nodes of these names may be others now, None: any; `service_cidrs` None: as before."""
        before = self._inside.copy()
        addresses: dict[bytes, bool] = {}  # touched: whether another Node had it
        for name in {**self._nodes, **nodes} if names is None else names:
            self._replace(name, nodes.get(name), addresses)
        if service_cidrs is not None:
            self._range(service_cidrs)
        come = tuple(a for a, had in addresses.items() if not had and a in self._neighbours)
        gone = tuple(a for a, had in addresses.items() if had and a not in self._neighbours)
        return Moved(come, gone, self._inside != before)

    def _replace(self, name: str, new: Node | None, addresses: dict[bytes, bool]) -> None:
        old = self._nodes.pop(name, None)
        if new is not None:
            self._nodes[name] = new
        if old == new:
            return
        if name != self._name:
            for node, step in ((old, -1), (new, 1)):
                for address in node.addresses if node is not None else ():
                    addresses.setdefault(address, address in self._neighbours)
                    _count(self._neighbours, address, step)
        for node, step in ((old, -1), (new, 1)):
            for network in _networks(node) if node is not None else ():
                _count(self._networks, network, step)
                self._place(network)

    def _range(self, service_cidrs: Sequence[str]) -> None:
        wanted = tuple(network for network in map(parsed, service_cidrs) if network is not None)
        if wanted != self._service_cidrs:
            self._service_cidrs = wanted
            for network in self._networks:
                self._place(network)

    def _place(self, network: str) -> None:
        """A range that holds a whole ServiceCIDR is one it was carved from: what the pods have of it is elsewhere."""
        counted = network in self._networks and any(_within(parsed(network), cidr) for cidr in self._service_cidrs)
        (self._inside.add if counted else self._inside.discard)(network)


def _count(counts: Counter[T], key: T, step: int) -> None:
    counts[key] += step
    if not counts[key]:
        del counts[key]


def _networks(node: Node) -> list[str]:
    """The networks of its addresses and pods; a text that is no network is left out (the resolver reports it)."""
    addresses = (_single(address) for address in node.addresses if len(address) in (4, 16))
    return [*addresses, *(cidr for cidr in node.pod_cidrs if parsed(cidr) is not None)]


def _single(address: bytes) -> str:
    return f"{ip_address(address)}/{8 * len(address)}"


def parsed(text: str) -> Network | None:
    """The network; None for a text that is none."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _within(inner: Network | None, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network) and inner.subnet_of(outer)
