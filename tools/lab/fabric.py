"""The network of a small cluster: a router, nodes with pods behind a bridge, clients outside. IPv4 and IPv6 everywhere.

Called by tests, demo and benchmark through `build`; the addresses follow from the numbers alone:

    node i, from 1     192.168.0.(1+i), 192.168.1.(1+i)   2001:db8::(1+i), 2001:db8:1::(1+i)   zone-a, zone-b, ...
    its pods           10.180.i.0/24, gateway .1          fd00:10:180:i::/64, gateway ::1
    outside client j   203.0.113.2, .130, ...             2001:db8:f::2, ::82, ...
    the API server     198.51.100.2                       2001:db8:c::2
    the control plane  198.51.100.3                       2001:db8:c::3

Nobody has a route to Services (172.30.0.0/16, fd00:10:96::/112) but the default one: a pod's leads to its node,
a node's to the router, and the router drops without a word. So an address nobody serves times out, and a refusal is
somebody's.
Knows nothing of Services.
"""

from __future__ import annotations

import ipaddress
import itertools
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from tools.lab import netns
from tools.lab.links import Wiring
from tools.lab.netns import Namespace

CLUSTER_CIDRS = ("10.180.0.0/16", "fd00:10:180::/48")
SERVICE_CIDRS = ("172.30.0.0/16", "fd00:10:96::/112")
# More than the kernel's own choice, since much connects here; but no port that a program of the laboratory listens on
# (Jaeger on 16686): a long-lived connection from there would be in its way.
CLIENT_PORTS = {"ipv4/ip_local_port_range": "20000 65000"}
_serial = itertools.count()  # several fabrics of one process differ in name


@dataclass(frozen=True)
class Topology:
    """How many of everything. `bridge_netfilter`: whether bridged frames pass the IP hooks (needs br_netfilter)."""

    nodes: int = 3
    servers: int = 2
    clients: int = 1
    outside: int = 2
    bridge_netfilter: bool = False


@dataclass(frozen=True)
class Host:
    """Whatever has one address per family: a pod, an outside client, the API server's host."""

    name: str
    space: Namespace
    v4: str
    v6: str

    def address(self, family: int = 4) -> str:
        return self.v4 if family == 4 else self.v6


@dataclass(frozen=True)
class Pod(Host):
    node: str = ""


@dataclass
class Node:
    name: str
    number: int
    zone: str
    space: Namespace
    v4: tuple[str, str]
    v6: tuple[str, str]
    pod_cidrs: tuple[str, str]
    servers: list[Pod] = field(default_factory=list)
    clients: list[Pod] = field(default_factory=list)

    def address(self, family: int = 4, which: int = 0) -> str:
        return (self.v4 if family == 4 else self.v6)[which]

    def gateway(self, family: int = 4) -> str:
        """The node's own address on the bridge of its pods."""
        return str(ipaddress.ip_network(self.pod_cidrs[0 if family == 4 else 1])[1])


class Fabric:
    """Made by `build`. Pods may come and go while it runs."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._tag = f"{serial}-" if (serial := next(_serial)) else ""
        self.spaces: list[Namespace] = []
        self.router = self.machine("router")
        self.nodes: list[Node] = []
        self.outside: list[Host] = []
        self.apiserver: Host
        self.controlplane: Host
        self._pod_numbers: dict[str, Iterator[int]] = {}
        self.wiring = Wiring()

    @property
    def pods(self) -> list[Pod]:
        """The server pods of all nodes."""
        return [pod for node in self.nodes for pod in node.servers]

    def machine(self, name: str) -> Namespace:
        """A namespace of this fabric without links; deleted with it."""
        space = netns.create(self._tag + name)
        self.spaces.append(space)
        quiet(space)
        return space

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def add_pod(self, node: Node, name: str = "", *, client: bool = False) -> Pod:
        """A new pod with the next free address of the node; addresses are not used twice."""
        number = next(self._pod_numbers.setdefault(node.name, itertools.count(10)))
        name = name or f"{node.name}-pod-{number - 9}"
        space = self.machine(name)
        space.sysctl(CLIENT_PORTS)
        v4, v6 = (str(ipaddress.ip_network(cidr)[number]) for cidr in node.pod_cidrs)
        port = f"pod{number}"
        self.wiring.pair(node.space, port, space, "eth0")
        self.wiring.join_bridge(node.space, port, "pods", hairpin=True)
        # A host address with the gateway on the link: replies to a neighbour pass the node too, where they are
        # translated back, also on kernels whose bridge does not call netfilter.
        self.wiring.configure(space, "eth0", [f"{v4}/32", f"{v6}/128"])
        for gateway in (node.gateway(4), node.gateway(6)):
            self.wiring.route(space, "default", gateway, "eth0")
        pod = Pod(name, space, v4, v6, node.name)
        (node.clients if client else node.servers).append(pod)
        return pod

    def remove_pod(self, pod: Pod) -> None:
        """The pod's namespace is deleted, and its end of the bridge with it. Stop its servers first."""
        node = self.node(pod.node)
        for pods in (node.servers, node.clients):
            if pod in pods:
                pods.remove(pod)
        self.wiring.forget(pod.space)
        self.spaces.remove(pod.space)
        netns.delete(pod.space)

    def route(self, prefix: str, node: Node) -> None:
        """The router sends `prefix` (a load balancer's or an external address) to this node."""
        self.wiring.route(self.router, prefix, node.address(6 if ":" in prefix else 4), "nodes")

    def close(self) -> None:
        self.wiring.close()
        for space in self.spaces:
            netns.delete(space)
        self.spaces.clear()


def quiet(space: Namespace) -> None:
    """Deterministic kernel behaviour: no address detection, no redirects, no limits on ICMP (refusals are ICMP)."""
    space.sysctl({
        "ipv6/conf/all/disable_ipv6": 0,
        "ipv6/conf/default/accept_dad": 0,
        "ipv6/conf/all/accept_dad": 0,
        "ipv6/conf/default/accept_ra": 0,
        "ipv6/conf/all/accept_ra": 0,
        "ipv6/conf/default/accept_redirects": 0,
        "ipv6/conf/all/accept_redirects": 0,
        "ipv4/conf/all/rp_filter": 0,
        "ipv4/conf/default/rp_filter": 0,
        "ipv4/conf/all/send_redirects": 0,
        "ipv4/conf/default/send_redirects": 0,
        "ipv4/icmp_ratelimit": 0,
        "ipv4/icmp_msgs_per_sec": 1_000_000,
        "ipv4/icmp_msgs_burst": 1_000_000,
        "ipv6/icmp/ratelimit": 0,
    })  # fmt: skip


def forwarding(space: Namespace) -> None:
    space.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, "ipv6/conf/default/forwarding": 1})


def build(topology: Topology = Topology()) -> Fabric:
    """The whole network, in about a second. Needs root; what is half made when it fails is deleted again."""
    netns.sweep()
    fabric = Fabric(topology)
    try:
        _build(fabric)
    except BaseException:
        fabric.close()
        raise
    return fabric


def _build(fabric: Fabric) -> None:
    topology, router, wiring = fabric.topology, fabric.router, fabric.wiring
    forwarding(router)
    wiring.bridge(router, "nodes", ["192.168.0.254/24", "192.168.1.254/24", "2001:db8::fffe/64", "2001:db8:1::fffe/64"])
    wiring.bridge(router, "outside", ["203.0.113.1/24", "2001:db8:f::1/64"])
    wiring.bridge(router, "control", ["198.51.100.1/24", "2001:db8:c::1/64"])
    for default in ("0.0.0.0/0", "::/0"):
        wiring.blackhole(router, default)
    for number in range(1, topology.nodes + 1):
        fabric.nodes.append(_add_node(fabric, number))
    for node, peer in itertools.permutations(fabric.nodes, 2):
        for cidr, family in zip(peer.pod_cidrs, (4, 6), strict=True):
            wiring.route(node.space, cidr, peer.address(family), "eth0")
    for number in range(topology.outside):
        offset = 2 + 128 * number
        addresses = (f"203.0.113.{offset}", f"2001:db8:f::{offset:x}")
        fabric.outside.append(host(fabric, f"outside-{number + 1}", "outside", addresses))
    fabric.apiserver = host(fabric, "apiserver", "control", ("198.51.100.2", "2001:db8:c::2"))
    fabric.controlplane = host(fabric, "controlplane", "control", ("198.51.100.3", "2001:db8:c::3"))


def _add_node(fabric: Fabric, number: int) -> Node:
    name, wiring, topology = f"node-{number}", fabric.wiring, fabric.topology
    space = fabric.machine(name)
    forwarding(space)
    space.sysctl(
        {f"bridge/bridge-nf-call-{tool}": int(topology.bridge_netfilter) for tool in ("iptables", "ip6tables")}
    )
    v4 = (f"192.168.0.{1 + number}", f"192.168.1.{1 + number}")
    v6 = (f"2001:db8::{1 + number:x}", f"2001:db8:1::{1 + number:x}")
    cidrs = (f"10.180.{number}.0/24", f"fd00:10:180:{number:x}::/64")
    node = Node(name, number, f"zone-{chr(ord('a') + (number - 1) % 26)}", space, v4, v6, cidrs)
    wiring.pair(fabric.router, name, space, "eth0")
    wiring.join_bridge(fabric.router, name, "nodes")
    # Of several IPv6 addresses the kernel prefers the one added last: the node's first one shall be it.
    wiring.configure(space, "eth0", [*(f"{a}/24" for a in v4), *(f"{a}/64" for a in reversed(v6))])
    for gateway in ("192.168.0.254", "2001:db8::fffe"):
        wiring.route(space, "default", gateway, "eth0")
    wiring.bridge(space, "pods", [f"{node.gateway(4)}/24", f"{node.gateway(6)}/64"])
    for cidr, family in zip(cidrs, (4, 6), strict=True):
        wiring.route(fabric.router, cidr, node.address(family), "nodes")
    for _ in range(topology.servers):
        fabric.add_pod(node)
    for index in range(topology.clients):
        fabric.add_pod(node, f"{name}-client-{index + 1}", client=True)
    return node


def host(fabric: Fabric, name: str, bridge: str, addresses: Sequence[str]) -> Host:
    """A machine on one of the router's bridges (`outside`, `control`), with an address per family."""
    space, wiring = fabric.machine(name), fabric.wiring
    space.sysctl(CLIENT_PORTS)
    wiring.pair(fabric.router, name, space, "eth0")
    wiring.join_bridge(fabric.router, name, bridge)
    wiring.configure(space, "eth0", [f"{addresses[0]}/24", f"{addresses[1]}/64"])
    for address, prefix in zip(addresses, (24, 64), strict=True):
        gateway = ipaddress.ip_interface(f"{address}/{prefix}").network[1]
        wiring.route(space, "default", str(gateway), "eth0")
    return Host(name, space, addresses[0], addresses[1])


@contextmanager
def running(topology: Topology = Topology()) -> Iterator[Fabric]:
    """The network meanwhile, taken down also on Ctrl-C and SIGTERM."""
    with terminated_as_exit():
        fabric = build(topology)
        try:
            yield fabric
        finally:
            fabric.close()


@contextmanager
def terminated_as_exit(signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGHUP)) -> Iterator[None]:
    """A polite end is an exception, so that finalisers run. Main thread only."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = [(number, signal.signal(number, leave)) for number in signals]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
