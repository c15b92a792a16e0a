"""Rules that nftables mode and userspace mode's nft redirects have in common, and how both tell local traffic. Pure.

The shape follows kube-proxy's nftables mode (row ids are those of docs/behaviour.md).
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_network
from typing import TypeVar

from nodeagent.dataplane import local_traffic
from nodeagent.dataplane.local_traffic import Detector
from nodeagent.dataplane.nft_sets import REJECT_CHAIN
from nodeagent.dataplane.set_members import CLUSTER_IPS, NODEPORT_ANYWHERE, NODEPORT_IPS, OWN_PODS, SERVICE_CIDRS
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import statements as s
from nodeagent.linux.nft.objects import INTERVAL, Chain, Rule, Set, rule
from nodeagent.linux.nft.program import Part, Program

_COMMENT = "deltaplane program "
P = TypeVar("P", bound=Program)
Statements = tuple[s.Statement, ...]


def signed(draft: P, *parts: Part) -> P:
    """The program with a comment by which it is recognised: the hash of its text, with these parts."""
    unsigned = replace(draft, comment=_COMMENT)
    return replace(draft, comment=_COMMENT + sha256(unsigned.text(parts).encode()).hexdigest()[:16])


def key(kind: str, family: int) -> tuple[x.Field, ...]:
    """What tells frontends apart: node ports ("node...") have no address of their own."""
    number = (x.protocol(), x.port())
    return number if kind.startswith("node") else (x.destination(family), *number)


def node_sets(family: int) -> tuple[Set, ...]:
    """The sets of `set_members`, without the hairpin connections."""
    destination = (x.destination(family),)
    return (
        Set(CLUSTER_IPS, destination),
        Set(NODEPORT_IPS, destination),
        Set(NODEPORT_ANYWHERE, (x.protocol(1),)),
        Set(SERVICE_CIDRS, destination, flags=INTERVAL),
        Set(OWN_PODS, (x.source(family),), flags=INTERVAL),
    )


def refusing(family: int) -> Chain:
    """Port unreachable (F4); for IPv6 TCP a reset.

    The kernel drops an ICMPv6 error that arrives while the connecting socket is locked, as it is for clients on this
    node or behind a veth (TcpExtLockDroppedIcmps counts it): they were refused only after the SYN's retransmission, a
    second later. A reset is heard at once.
    """
    return Chain(REJECT_CHAIN, (*((rule(s.reset()),) if family == 6 else ()), rule(s.reject(family))))


def cluster_ips_check(family: int) -> Chain:
    """Other ports of active ClusterIPs are refused (F5), unallocated addresses dropped where CIDRs are known (F6)."""
    destination = (x.destination(family),)
    active = rule(s.member(destination, family, CLUSTER_IPS), s.goto(REJECT_CHAIN))
    unallocated = rule(s.member(destination, family, SERVICE_CIDRS), s.drop())
    return Chain("cluster-ips-check", (active, unallocated))


def at_node_ports(family: int, then: s.Statement) -> tuple[Rule, ...]:
    """What happens at addresses on which node ports answer, never loopback ones (B5, B6).

    They are listed, or all the node's own for the protocols in `nodeport-anywhere` (B4).
    """
    loopback = ip_network("127.0.0.0/8" if family == 4 else "::1/128")
    guard = s.inside(x.destination(family), family, loopback, negate=True)
    anywhere = s.member((x.protocol(1),), family, NODEPORT_ANYWHERE)
    return (
        rule(guard, s.member((x.destination(family),), family, NODEPORT_IPS), then),
        rule(guard, anywhere, s.to_this_node(), then),
    )


# ---------------------------------------------------------------- local traffic


def _local(settings: Detector, family: int) -> Statements | None:
    """Goes on only for local sources; no statement: all are local; None: there is no detector."""
    if settings.interface:
        return (s.arrives_at(settings.interface),)
    network = settings.network(family)
    if network is None:
        return None
    return (s.inside(x.source(family), family, network),) if network.prefixlen else ()


def own_pods(settings: Detector, family: int) -> Statements | None:
    """As `_local`, for this node's pods only."""
    found = _local(settings, family)
    if local_traffic.of_all_nodes(settings, family) is None:
        return found
    return (*(found or ()), s.member((x.source(family),), family, OWN_PODS))


def off_cluster(settings: Detector, family: int) -> Statements | None:
    """Goes on only for sources that `_local` does not tell; None: there are none, or no detector."""
    if settings.interface:
        return (s.arrives_at(settings.interface, negate=True),)
    network = settings.network(family)
    if network is None or not network.prefixlen:
        return None
    return (s.inside(x.source(family), family, network, negate=True),)
