"""The constant nft program: rules that never change while Services come and go, one table of our own per family.

A frontend is an element of a map that leads to a listener, or of one that refuses; sources outside the cluster and
other nodes' pods are looked up in maps of their own first, where a policy gives them another list (2.3). What refuses
at filter hooks is as in nftables mode (F1 to F6), and so are the sets, so that an operator reads both alike.
Connections of the proxy itself carry a mark and are never looked at. Nothing is masqueraded: endpoints see the node,
because the node connects to them.
"""

from __future__ import annotations

from ipaddress import ip_network

from nodeagent.dataplane import nft_rules
from nodeagent.dataplane.nft_rules import at_node_ports
from nodeagent.dataplane.userspace import tracker as t
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import statements as s
from nodeagent.linux.nft.objects import Chain, Hook, Rule, Set, rule
from nodeagent.linux.nft.program import Program

DATA_MAPS = (t.REDIRECTS, t.OUTSIDE, t.NODE_PORTS, t.NODE_PORTS_OUTSIDE)
VERDICT_MAPS = (t.REFUSALS, t.REFUSALS_OUTSIDE, t.NODE_REFUSALS, t.NODE_REFUSALS_OUTSIDE)
NODE_MAPS = (t.NODE_PORTS, t.NODE_PORTS_OUTSIDE, t.NODE_REFUSALS, t.NODE_REFUSALS_OUTSIDE)
MAPS = (*DATA_MAPS, *VERDICT_MAPS)


def program(family: int, settings: Settings) -> Program:
    """The program of a family (4 or 6). Raises ValueError for a CIDR that is none."""
    return nft_rules.signed(Program(family, settings.table, _sets(family), _chains(family, settings)))


def _sets(family: int) -> tuple[Set, ...]:
    target = (x.destination(family), x.port())
    maps = [Set(name, _key(name, family), target) for name in DATA_MAPS]
    maps += [Set(name, _key(name, family), "verdict") for name in VERDICT_MAPS]
    return (*nft_rules.node_sets(family), *maps)


def _key(name: str, family: int) -> tuple[x.Field, ...]:
    return nft_rules.key("node" if name in NODE_MAPS else "cluster", family)


def _redirect(family: int, name: str) -> s.Statement:
    return s.translate(_key(name, family), family, name)


def _refuse(family: int, name: str) -> s.Statement:
    return s.dispatch(_key(name, family), family, name)


def _chains(family: int, settings: Settings) -> tuple[Chain, ...]:
    outside = rule(_redirect(family, t.OUTSIDE)), *at_node_ports(family, _redirect(family, t.NODE_PORTS_OUTSIDE))
    return (
        nft_rules.refusing(family),
        Chain(
            "inside", (rule(_redirect(family, t.REDIRECTS)), *at_node_ports(family, _redirect(family, t.NODE_PORTS)))
        ),
        Chain("outside", (*outside, rule(s.goto("inside")))),
        Chain("services", (*_from(nft_rules.own_pods(settings, family), "inside"), rule(s.goto("outside")))),
        Chain("unrestricted", ()),
        Chain("outside-check", _outside_check(family, settings)),
        Chain("service-endpoints-check", (rule(_refuse(family, t.REFUSALS)),)),
        Chain("nodeport-endpoints-check", at_node_ports(family, _refuse(family, t.NODE_REFUSALS))),
        nft_rules.cluster_ips_check(family),
        *_base_chains(family, settings),
    )


def _from(pods: tuple[s.Statement, ...] | None, chain: str) -> tuple[Rule, ...]:
    """These pods, if any, and this node go to a chain; others go on."""
    node = rule(s.from_this_node(), s.goto(chain))
    return (node,) if pods is None else (rule(*pods, s.goto(chain)), node)


def _outside_check(family: int, settings: Settings) -> tuple[Rule, ...]:
    """What a policy drops of sources outside and of other nodes' pods (C3)."""
    refused = rule(_refuse(family, t.REFUSALS_OUTSIDE))
    node_ports = at_node_ports(family, _refuse(family, t.NODE_REFUSALS_OUTSIDE))
    return (*_from(nft_rules.own_pods(settings, family), "unrestricted"), refused, *node_ports)


def _at_listeners(family: int, settings: Settings) -> Rule:
    """Who was not redirected has no business at the listeners: it would evade what their redirects refuse."""
    home = s.inside(x.destination(family), family, ip_network(settings.address(family)))
    return rule(s.connection("state", "new"), home, _untranslated(), s.drop())


def _untranslated() -> s.Statement:
    """Goes on only for connections whose destination was not translated."""
    track = x.Expression("ct", wire.number(1, 1) + wire.number(2, x.CT_STATUS))
    steps = (track, x.bitwise(x.host32(x.STATUS_DNAT), bytes(4)), x.compare(bytes(4)))
    return s.Statement("ct status & dnat == 0x00000000", steps)


def _unmarked(bit: int) -> s.Statement:
    """Goes on only where the packet's mark has not this bit."""
    steps = (x.meta(x.META_MARK, 1), x.bitwise(x.host32(bit), bytes(4)), x.compare(bytes(4)))
    return s.Statement(f"meta mark & 0x{bit:08x} == 0x00000000", steps)


def _base_chains(family: int, settings: Settings) -> tuple[Chain, ...]:
    """Sources outside that a policy drops are dropped before anything is redirected."""
    new, not_ours = s.connection("state", "new"), _unmarked(settings.mark)
    check = {name: rule(new, s.jump(f"{name}-check")) for name in ("outside", "service-endpoints", "cluster-ips")}
    node = rule(new, s.jump("nodeport-endpoints-check"))
    services, clusters = check["service-endpoints"], check["cluster-ips"]
    return (
        Chain("filter-prerouting", (check["outside"],), Hook("filter", "prerouting", -110)),
        Chain("filter-input", (_at_listeners(family, settings), node, services), Hook("filter", "input", 0)),
        Chain("filter-forward", (services, clusters), Hook("filter", "forward", 0)),
        Chain("filter-output", (services, clusters), Hook("filter", "output", 0)),
        Chain("nat-prerouting", (rule(s.jump("services")),), Hook("nat", "prerouting", -100)),
        Chain("nat-output", (rule(not_ours, s.jump("inside")),), Hook("nat", "output", -100)),
    )
