"""The iptables rules of the mode: as many on every node, whatever the Services. A pure function of the settings.

Chains carry the names kube-proxy's ipvs mode gives them; each rule stands as `iptables-save` prints it, so that
`rule_changes.difference` can tell by comparing text whether the kernel has them. Where every packet goes:

    mangle OUTPUT       what a load balancer address is closed to, for the node's own connections (G1): IPVS takes them
                        before the filter table sees them
    nat PREROUTING, OUTPUT   who is masqueraded (I1, I2)
    mangle INPUT        sources outside, and other nodes' pods, get a mark that chooses the endpoints of this node (C4),
                        and are dropped where it has none (C3): last before IPVS
    filter INPUT        what is closed or refused at an address of ours
    mangle POSTROUTING  the mark is taken off again
    nat POSTROUTING     masquerading
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from deltaplane.model import PROTOCOL_NAMES, Protocol
from nodeagent.dataplane import local_traffic
from nodeagent.dataplane.ipvs import names
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.dataplane.local_traffic import Network
from nodeagent.linux.text import arriving, word

MARKS = 0xDE << 24  # the packet marks 0xde000000 to 0xdeffffff are virtual servers of ours
MARKS_MASK = 0xFF << 24

FORWARD, FIREWALL, FILTER = "KUBE-FORWARD", "KUBE-PROXY-FIREWALL", "KUBE-IPVS-FILTER"
RANGES, NODE_PORT, OUT_FILTER = "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-NODE-PORT", "KUBE-IPVS-OUT-FILTER"
SERVICES, BALANCER, MARK_MASQ, POSTROUTING = "KUBE-SERVICES", "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"
OUTSIDE, UNMARK = "KUBE-IPVS-OUTSIDE", "KUBE-IPVS-UNMARK"


class Jump(NamedTuple):
    """A rule at the head of a chain that is not ours."""

    chain: str
    rule: str


class Table(NamedTuple):
    """What one table is to hold of ours: chains with their rules, and the jumps there, the first to be first."""

    chains: Mapping[str, Sequence[str]]
    jumps: Sequence[Jump]


def tables(family: int, settings: Settings, pod_cidrs: tuple[str, ...] = ()) -> dict[str, Table]:
    """By table. `pod_cidrs`: this Node's, of both families. Raises ValueError for a CIDR that is none."""
    own = local_traffic.of_this_node(settings, family, (c for c in pod_cidrs if (":" in c) is (family == 6)))
    spared = [f"-s {network} -j RETURN" for network in own]
    return {
        "mangle": _mangle(family, settings, spared),
        "nat": _nat(family, settings),
        "filter": _filter(family, settings),
    }


CHAINS = {
    "mangle": (OUTSIDE, OUT_FILTER, RANGES, UNMARK),
    "nat": (SERVICES, BALANCER, NODE_PORT, POSTROUTING, MARK_MASQ),
    "filter": (FORWARD, FIREWALL, FILTER, RANGES, NODE_PORT),
}


def _in(family: int, name: str, way: str = "dst,dst") -> str:
    return f"-m set --match-set {names.named(family, name)} {way}"


_LOCAL_SOURCE, _FOREIGN_SOURCE = "-m addrtype --src-type LOCAL", "-m addrtype ! --src-type LOCAL"
_NEW = "-m conntrack --ctstate NEW"


def _outside(family: int, settings: Settings) -> str | None:
    """Matches what is not recognised as local traffic; empty where there is no detector; None: everything is local."""
    if settings.interface:
        return f"! -i {arriving(settings.interface)}"
    network = settings.network(family)
    if network is None:
        return ""
    return f"! -s {network}" if network.prefixlen else None


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _mangle(family: int, settings: Settings, own_pods: Sequence[str]) -> Table:
    """`own_pods`: rules that end a chain for this node's pods, where the detector tells all nodes'."""
    member = partial(_in, family)
    outside = "" if local_traffic.of_all_nodes(settings, family) else _outside(family, settings)
    mark = names.named(family, names.OUTSIDE_MARK)
    ends = (
        (member(names.OUTSIDE_MARK), f"-j SET --map-set {mark} dst,dst --map-mark"),
        (_NEW, member(names.DROP_OUTSIDE), "-j DROP"),
    )
    chains = {
        OUTSIDE: [] if outside is None else [*own_pods, *(_join(outside, _FOREIGN_SOURCE, *end) for end in ends)],
        OUT_FILTER: [_join(_NEW, member(names.LOAD_BALANCER_FW), f"-j {RANGES}")],
        RANGES: _ranges(family),
        UNMARK: [f"-m mark --mark {MARKS:#x}/{MARKS_MASK:#x} -j MARK --set-xmark 0x0/0xffffffff"],
    }
    jumps = (
        Jump("INPUT", _jump("sources outside the cluster", OUTSIDE)),
        Jump("OUTPUT", _jump("kubernetes ipvs access filter", OUT_FILTER)),
        Jump("POSTROUTING", _jump("marks of virtual servers", UNMARK)),
    )
    return Table(chains, jumps)


def _jump(comment: str, chain: str) -> str:
    return f'-m comment --comment "{word(comment)}" -j {chain}'


def _ranges(family: int) -> list[str]:
    allowed = (names.SOURCE_CIDR, names.SOURCE_IP)
    return [*(f"{_in(family, name, 'dst,dst,src')} -j RETURN" for name in allowed), "-j DROP"]


def _nat(family: int, settings: Settings) -> Table:
    mark = f"{settings.mark:#x}/{settings.mark:#x}"
    chains = {
        SERVICES: list(_services(family, settings)),
        BALANCER: _balancer(family),
        NODE_PORT: list(_node_ports(family)),
        POSTROUTING: [
            f"{_in(family, names.LOOP_BACK, 'dst,dst,src')} -j MASQUERADE",
            f"-m mark ! --mark {mark} -j RETURN",
            f"-j MARK --set-xmark {settings.mark:#x}/0x0",
            "-j MASQUERADE --random-fully",
        ],
        MARK_MASQ: [f"-j MARK --set-xmark {mark}"],
    }
    jumps = (
        Jump("PREROUTING", _jump("kubernetes service portals", SERVICES)),
        Jump("OUTPUT", _jump("kubernetes service portals", SERVICES)),
        Jump("POSTROUTING", _jump("kubernetes postrouting rules", POSTROUTING)),
    )
    return Table(chains, jumps)


def _services(family: int, settings: Settings) -> Iterator[str]:
    member = partial(_in, family)
    yield f"-s {'127.0.0.0/8' if family == 4 else '::1/128'} -j RETURN"
    yield f"{member(names.LOAD_BALANCER)} -j {BALANCER}"
    yield from _off_cluster(family, settings)
    yield f"{member(names.EXTERNAL_IP)} -j {MARK_MASQ}"
    yield f"{_LOCAL_SOURCE} {member(names.EXTERNAL_IP_LOCAL)} -j {MARK_MASQ}"
    for name in (names.EXTERNAL_IP, names.EXTERNAL_IP_LOCAL):
        yield f"{member(name)} -j ACCEPT"
    yield f"-m addrtype --dst-type LOCAL -j {NODE_PORT}"
    for name in (names.CLUSTER_IP, names.LOAD_BALANCER):
        yield f"{member(name)} -j ACCEPT"


def _off_cluster(family: int, settings: Settings) -> Iterator[str]:
    """Sources to be masqueraded towards ClusterIPs; with none to be, those that have the ClusterIP as their own."""
    member = _in(family, names.CLUSTER_IP)
    outside = _outside(family, settings)
    if settings.masquerade_all:
        yield f"{member} -j {MARK_MASQ}"
    elif outside:
        yield f"{outside} {member} -j {MARK_MASQ}"
    else:
        yield f"{_in(family, names.CLUSTER_IP, 'src,dst')} -j {MARK_MASQ}"


def _balancer(family: int) -> list[str]:
    local = _in(family, names.LOAD_BALANCER_LOCAL)
    return [f"{_LOCAL_SOURCE} {local} -j {MARK_MASQ}", f"{local} -j RETURN", f"-j {MARK_MASQ}"]


def _node_ports(family: int) -> Iterator[str]:
    for number, protocol in PROTOCOL_NAMES.items():
        way = "dst,dst" if number == Protocol.SCTP else "dst"
        local = _in(family, names.NODE_PORT_LOCAL[number], way)
        yield f"-p {protocol} {_LOCAL_SOURCE} {local} -j {MARK_MASQ}"
        yield f"-p {protocol} {local} -j RETURN"
        yield f"-p {protocol} {_in(family, names.NODE_PORT[number], way)} -j {MARK_MASQ}"


def _filter(family: int, settings: Settings) -> Table:
    member = partial(_in, family)
    chains = {
        FORWARD: [
            f"-m mark --mark {settings.mark:#x}/{settings.mark:#x} -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ],
        FIREWALL: [_join(_NEW, member(names.LOAD_BALANCER_FW), f"-j {RANGES}")],
        RANGES: _ranges(family),
        FILTER: list(_access(family, settings)),
        NODE_PORT: [f"-p tcp {member(names.HEALTH_CHECK, 'dst')} -j ACCEPT"],
    }
    jumps = (
        Jump("INPUT", _jump("kube-proxy firewall rules", FIREWALL)),
        Jump("INPUT", _jump("kubernetes ipvs access filter", FILTER)),
        Jump("INPUT", _jump("kubernetes health check rules", NODE_PORT)),
        Jump("FORWARD", _jump("kube-proxy firewall rules", FIREWALL)),
        Jump("FORWARD", _jump("kubernetes forwarding rules", FORWARD)),
    )
    return Table(chains, jumps)


def _access(family: int, settings: Settings) -> Iterator[str]:
    """What becomes of new connections to addresses of ours: dropped, let through, or refused (C2, F5)."""
    member = partial(_in, family)
    icmp, refusal = ("icmp", "icmp-port-unreachable") if family == 4 else ("ipv6-icmp", "icmp6-port-unreachable")
    yield f"-p {icmp} -j RETURN"
    yield from _untranslatable(settings.network(family))
    yield f"{_NEW} {member(names.DROP)} -j DROP"
    if family == 6:  # an ICMPv6 error, as IPVS sends it, is lost on a socket that is connecting, for a second
        yield f"-p tcp {_NEW} {member(names.RESET)} -j REJECT --reject-with tcp-reset"
    for name in names.KNOWN:
        yield f"{member(name)} -j RETURN"
    yield f"-p tcp {member(names.HEALTH_CHECK, 'dst')} -j RETURN"
    if family == 6:
        yield f"-p tcp {_NEW} {member(names.IPVS_IPS, 'dst')} -j REJECT --reject-with tcp-reset"
    yield f"{_NEW} {member(names.IPVS_IPS, 'dst')} -j REJECT --reject-with {refusal}"


def _untranslatable(network: Network | None) -> Iterator[str]:
    """What conntrack calls INVALID is not translated back: the node, or who is masqueraded, would reset the stream.

    Forwarded packets IPVS knows by itself. All of what comes to the node's own sockets passes this chain, in both
    directions, so that nothing is INVALID for having come another way.
    """
    if network is not None and network.prefixlen:
        yield f"-s {network} -m conntrack --ctstate INVALID -j DROP"
