"""The constant program: the rules that never change while Services come and go.

One table per family. Frontends are elements of verdict maps, endpoints elements of data maps; `shared` chains, one per
power of two, serve every Service. `delivery` installs the program once and makes shared chains as elements need them.
The shape follows kube-proxy's nftables mode where that mode has fixed chains (behaviour G1, I1 to I4, F1 to F6);
nothing accepts packets, because an accept cannot override another table's drop (I6).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeagent.dataplane import nft_rules
from nodeagent.dataplane.nft_rules import at_node_ports, key
from nodeagent.dataplane.nftables import shared
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.dataplane.nftables.shared import Builder
from nodeagent.dataplane.set_members import CLUSTER_IPS, HAIRPINS
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import program as linux
from nodeagent.linux.nft import statements as s
from nodeagent.linux.nft.objects import DYNAMIC, TIMEOUT, Chain, Hook, Rule, Set, rule
from nodeagent.linux.nft.program import Part
from nodeagent.linux.nft.ranges import Range, merged

__all__ = ["Program", "Settings", "program"]

SERVICE_IPS, SERVICE_NODEPORTS = "service-ips", "service-nodeports"
NO_ENDPOINT_SERVICES, NO_ENDPOINT_NODEPORTS = "no-endpoint-services", "no-endpoint-nodeports"
FIREWALL_IPS = "firewall-ips"
TRANSLATED = "translated"
REMEMBERED = 432_000  # seconds that a place is known after the last connection was sent there: as conntrack's own


@dataclass(frozen=True)
class Program(linux.Program):
    """Everything of one family that does not depend on Services, and the shared chains that they may need."""

    settings: Settings = field(default_factory=Settings)

    def part(self, name: str, ranges: tuple[Range, ...] = ()) -> Part:
        """The shared chain of this name with all it needs, see `shared`."""
        return Builder(self.family, self.settings).part(name, ranges)

    def samples(self, *names: str) -> list[Part]:
        """Shared chains; firewalls among them with ranges for documentation."""
        return [self.part(name, SAMPLE_RANGES[self.family]) for name in names]


_AFFINITY = "/60/namespace/name/port/tcp"
SAMPLES = tuple(
    name + tail
    for name in ("external-local-4-4", "nodeport-local-4-4", "external-8", "nodeport-8", "external-local-4-0")
    for tail in ("", _AFFINITY)
)
SAMPLE_RANGES = {4: merged(["192.0.2.0/24"]), 6: merged(["2001:db8::/32"])}


def program(family: int, settings: Settings) -> Program:
    """The program of a family (4 or 6). Raises ValueError for a CIDR that is none."""
    draft = Program(family, settings.table, _sets(family), _chains(family, settings), settings=settings)
    return nft_rules.signed(draft, *draft.samples(*SAMPLES, "firewall/sample"))


def _sets(family: int) -> tuple[Set, ...]:
    address, node, slot = key("cluster", family), key("node", family), x.random(65536)
    number = (x.priority(),)
    target = (x.destination(family), x.port())
    return (
        *nft_rules.node_sets(family),
        Set(TRANSLATED, address, flags=DYNAMIC | TIMEOUT),
        Set(HAIRPINS, (x.source(family), *address)),
        Set(FIREWALL_IPS, address, "verdict"),
        Set(SERVICE_IPS, address, "verdict"),
        Set(SERVICE_NODEPORTS, node, "verdict"),
        Set(NO_ENDPOINT_SERVICES, address, "verdict"),
        Set(NO_ENDPOINT_NODEPORTS, node, "verdict"),
        Set(shared.ENDPOINTS, (*address, slot), target),
        Set(shared.NODEPORT_ENDPOINTS, (*node, slot), target),
        Set(shared.AFFINITY_SLOTS, (*address, slot), number),
        Set(shared.AFFINITY_ENDPOINTS, (*address, *number), target),
        Set(shared.AFFINITY_LOCALS, (*address, *number), target),
        Set(shared.NODEPORT_AFFINITY_SLOTS, (*node, slot), number),
        Set(shared.NODEPORT_AFFINITY_ENDPOINTS, (*node, *number), target),
        Set(shared.NODEPORT_AFFINITY_LOCALS, (*node, *number), target),
    )


def _chains(family: int, settings: Settings) -> tuple[Chain, ...]:
    return (*_inner_chains(family, settings), *_base_chains(family))


def _base_chains(family: int) -> tuple[Chain, ...]:
    """The firewall comes before translation, so that it sees the address the client meant."""
    new = s.connection("state", "new")
    firewall = (_untranslatable(family), rule(new, s.jump("firewall-check")))
    services, clusters = rule(new, s.jump("service-endpoints-check")), rule(new, s.jump("cluster-ips-check"))
    node = rule(new, s.jump("nodeport-endpoints-check"))
    to_services = (rule(s.jump("services")),)
    return (
        Chain("filter-prerouting-pre-dnat", firewall, Hook("filter", "prerouting", -110)),
        Chain("filter-output-pre-dnat", firewall, Hook("filter", "output", -110)),
        Chain("filter-input", (node, services), Hook("filter", "input", 0)),
        Chain("filter-forward", (services, clusters), Hook("filter", "forward", 0)),
        Chain("filter-output", (services, clusters), Hook("filter", "output", 0)),
        Chain("nat-prerouting", to_services, Hook("nat", "prerouting", -100)),
        Chain("nat-output", to_services, Hook("nat", "output", -100)),
        Chain("nat-postrouting", (rule(s.jump("masquerading")),), Hook("nat", "postrouting", 100)),
    )


def _inner_chains(family: int, settings: Settings) -> tuple[Chain, ...]:
    address, node = key("cluster", family), key("node", family)
    ports = s.dispatch(node, family, NO_ENDPOINT_NODEPORTS)
    return (
        nft_rules.refusing(family),
        Chain("services", _services(family, settings)),
        Chain("masquerading", _masquerading(family, settings)),
        Chain("firewall-check", (rule(s.dispatch(address, family, FIREWALL_IPS)),)),
        Chain("service-endpoints-check", (rule(s.dispatch(address, family, NO_ENDPOINT_SERVICES)),)),
        Chain("nodeport-endpoints-check", at_node_ports(family, ports)),
        nft_rules.cluster_ips_check(family),
    )


def _services(family: int, settings: Settings) -> tuple[Rule, ...]:
    """Addresses before node ports, so that a node address used as an external IP is that Service's (A7)."""
    off_cluster = () if settings.masquerade_all else nft_rules.off_cluster(settings, family)
    detect: tuple[Rule, ...] = ()
    if off_cluster is not None:
        to_cluster_ip = s.member((x.destination(family),), family, CLUSTER_IPS)
        detect = (rule(*off_cluster, to_cluster_ip, s.mark(settings.mark)),)
    return (
        *detect,
        rule(s.dispatch(key("cluster", family), family, SERVICE_IPS)),
        *at_node_ports(family, s.dispatch(key("node", family), family, SERVICE_NODEPORTS)),
    )


def _untranslatable(family: int) -> Rule:
    """What conntrack calls INVALID, such as a segment outside of the window, is not translated back.

    Its receiver, who knows no connection with that endpoint, would reset it, and the endpoint the stream. Dropped is
    only what comes from where connections were sent: other INVALID packets may be those of a path that conntrack sees
    one direction of.
    """
    sender = (x.source(family), x.protocol(), x.source_port())
    return rule(s.connection("state", "invalid"), s.member(sender, family, TRANSLATED), s.drop())


def _masquerading(family: int, settings: Settings) -> tuple[Rule, ...]:
    """The first packet of each connection passes this chain, which notes where those are sent that are translated."""
    hairpin = s.member((x.source(family), *key("cluster", family)), family, HAIRPINS)
    translated = s.connection("status", "dnat")
    return (
        rule(translated, s.note(key("cluster", family), family, TRANSLATED, REMEMBERED)),
        rule(s.marked(settings.mark), s.unmark(settings.mark), s.masquerade()),
        rule(translated, hairpin, s.masquerade()),
    )
