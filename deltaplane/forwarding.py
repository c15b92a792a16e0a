"""Forwarding entries: the neutral middle between Service semantics and any kernel backend.

`resolve` makes them from a Service and its EndpointSlices, as one node sees them; a backend says them in its kernel's
words and decides nothing. All values are frozen and compared by content, so "unchanged" is `==`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct

from deltaplane.model import ObjectKey


class Target(NamedTuple):
    """Where a connection is sent: an endpoint's packed address and its port on this service port."""

    address: bytes
    port: int


class FrontendKind(IntEnum):
    CLUSTER_IP = 1
    NODE_PORT = 2
    EXTERNAL_IP = 3
    LOAD_BALANCER = 4


class Frontend(NamedTuple):
    """What a client connects to. A node port has no address of its own (`address` is empty), but a family (4, 6)."""

    kind: FrontendKind
    family: int
    address: bytes
    protocol: int
    port: int


class Verdict(IntEnum):
    """What happens to a new connection when there is nowhere to send it."""

    FORWARD = 0
    REJECT = 1  # ICMP port unreachable: the client is refused at once
    DROP = 2  # a policy leaves no endpoint on this node, though others exist


class Masquerade(IntEnum):
    """Whose connections leave with this node's address."""

    OFF_CLUSTER = 1  # sources the local-traffic detector does not recognise (ClusterIP)
    ALWAYS = 2  # every source (external frontends under Cluster policy)
    NODE_ONLY = 3  # the node's own (external frontends under Local policy)


class Entry(Struct, frozen=True, gc=False):
    """One frontend of one service port on this node.

    `targets` is the list for every source, except where `local_targets` is not None (external frontends under Local
    policy). There this node and its own pods get `targets`, all others, pods of other nodes among them, `local_targets`
    or, where that is empty, `external_verdict`. `verdict` is FORWARD exactly where `targets` is not empty.
    """

    frontend: Frontend
    port_name: str
    targets: tuple[Target, ...]  # sorted, each once
    verdict: Verdict
    masquerade: Masquerade
    local_targets: tuple[Target, ...] | None = None
    external_verdict: Verdict = Verdict.FORWARD
    affinity_seconds: int = 0
    source_ranges: tuple[str, ...] = ()  # CIDRs of the family; other sources are dropped before anything else (G1, F7)
    serving: tuple[Target, ...] = ()  # UDP only, sorted: endpoints whose tracked flows stay (J2)
    local_policy: bool = False  # ClusterIP only: `targets` are by internalTrafficPolicy Local; iptables names it so
    is_vip: bool = False  # given twice: it is the load balancer's address too, whose `source_ranges` it has


class Hairpin(NamedTuple):
    """A target here, or without a node, that may reach itself through a Service; it is masqueraded then (I4)."""

    address: bytes
    protocol: int
    port: int


class HealthCheck(Struct, frozen=True, gc=False):
    """A health check node port and how many local ready endpoints (distinct addresses) it speaks for (K1)."""

    port: int
    local_ready: tuple[tuple[int, int], ...]  # family, number


class ServiceForwarding(Struct, frozen=True, gc=False):
    """All that one Service means on one node. An absent Service has no entries and no hairpins."""

    key: ObjectKey
    entries: tuple[Entry, ...] = ()
    hairpins: tuple[Hairpin, ...] = ()  # sorted, each once
    health_check: HealthCheck | None = None


class NodeForwarding(Struct, frozen=True, gc=False):
    """What concerns the node rather than one Service: the addresses its node ports answer on, where ClusterIPs are.

    `taken_cidrs`: what Nodes, pods and servers have of `service_cidrs`, by mistake; those addresses are never dropped.
    `pod_cidrs`: where this node's own pods are (`own_pod_cidrs`); with none of a family every pod is another node's.
    """

    node_port_addresses: tuple[bytes, ...] = ()  # sorted, both families
    match_all_families: tuple[int, ...] = ()  # sorted: on every address of the machine but loopback, none listed (B4)
    service_cidrs: tuple[str, ...] = ()  # of both families; their unallocated addresses are dropped (F6)
    taken_cidrs: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()


def own_pod_cidrs(node: tuple[str, ...], cluster: Iterable[str]) -> tuple[str, ...]:
    """Where a node's own pods are: `node`, the Node object's CIDRs; of a family without any, all pods' (`cluster`).

    Not every network plugin writes the Node's CIDRs. kube-proxy takes every pod for its own node's, always. A CIDR that
    holds every address tells nothing and is left out.
    """
    said = {":" in text for text in node}
    return (*node, *(text for text in cluster if (":" in text) not in said and not text.endswith("/0")))
