"""The constant program: the rules that never change while Services come and go.

One table per family. Frontends are elements of verdict maps, endpoints elements of data maps; shared chains, one per
power of two, serve every Service. `dataplane` installs the program once and asks for shared chains as elements need
them; `render` names them. The shape follows kube-proxy's nftables mode where that mode has fixed chains (behaviour I1
to I4, F1 to F5); nothing accepts packets, because an accept cannot override another table's drop (I6).

Choosing among N endpoints without a rule per Service is rejection sampling: the chain for K, the smallest power of two
not below N, tries a random slot below K eight times and then one below K/2, where every slot is filled. A miss falls
through to the next rule. The bias is at most 2^-8.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_network
from typing import NamedTuple

from msgspec import Struct

from nodeagent.program.nftables import expressions as x
from nodeagent.program.nftables.objects import Chain, Hook, Rule, Set, Table, rule

TRIES = 8
LOCAL_OFFSET = 32768  # where the slots of a frontend's node-local list begin; also the most endpoints of one list
MARK = 0x4000  # bit 14, as kube-proxy (I1); set and cleared within one packet's way, not for others to use
REJECT_CHAIN = "reject-chain"

SERVICE_IPS, SERVICE_NODEPORTS = "service-ips", "service-nodeports"
ENDPOINTS, NODEPORT_ENDPOINTS = "endpoints", "nodeport-endpoints"
NO_ENDPOINT_SERVICES, NO_ENDPOINT_NODEPORTS = "no-endpoint-services", "no-endpoint-nodeports"
CLUSTER_IPS, NODEPORT_IPS, HAIRPINS = "cluster-ips", "nodeport-ips", "hairpin-connections"


class Settings(Struct, frozen=True):
    """What the program depends on besides the Services.

    `cluster_cidrs`: the pods' networks, at most one used per family; sources outside are masqueraded towards
    ClusterIPs. A family without one has no local detector: nothing is masqueraded towards ClusterIPs, and only the
    node itself counts as inside the cluster. `table` is the table's name in every family.
    """

    cluster_cidrs: tuple[str, ...] = ()
    table: str = "deltaplane"

    def network(self, family: int) -> x.Network | None:
        """The first of the CIDRs that is of this family (I5)."""
        networks = (ip_network(text.strip(), strict=False) for text in self.cluster_cidrs)
        return next((network for network in networks if network.version == family), None)


class Program(NamedTuple):
    """Everything of one family that does not depend on Services."""

    family: int
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]  # in the order of creation
    settings: Settings
    digest: str

    @property
    def table(self) -> Table:
        return Table(self.family, self.settings.table, f"deltaplane program {self.digest}")

    def shared(self, name: str) -> tuple[Chain, ...]:
        """The shared chain of this name after the chains that it goes to."""
        return _shared(name, self.family, self.settings)

    def text(self, *shared: str) -> str:
        """The program in nft syntax, with these shared chains; `nft -f` takes it."""
        extra = {chain.name: chain for name in shared for chain in self.shared(name)}
        body = [line for declared in self.sets for line in declared.lines()]
        body += [line for chain in (*extra.values(), *self.chains) for line in chain.lines()]
        head = f"table {x.LAYOUTS[self.family].name} {self.settings.table} {{"
        return "\n".join([head, f'\tcomment "{self.table.comment}"', *("\t" + line for line in body), "}", ""])


def program(family: int, settings: Settings) -> Program:
    """The program of a family (4 or 6). Raises ValueError for a CIDR that is none."""
    draft = Program(family, _sets(family), _chains(family, settings), settings, "")
    samples = draft.text("external-local-4-4", "nodeport-local-4-4", "external-1", "nodeport-1", "external-local-4-0")
    return draft._replace(digest=sha256(samples.encode()).hexdigest()[:16])


def _address_key(family: int) -> tuple[x.Field, ...]:
    return (x.destination(family), x.protocol(), x.port())


def _node_key() -> tuple[x.Field, ...]:
    return (x.protocol(), x.port())


def _sets(family: int) -> tuple[Set, ...]:
    address, node, slot = _address_key(family), _node_key(), x.random(65536)
    target = (x.destination(family), x.port())
    return (
        Set(CLUSTER_IPS, (x.destination(family),)),
        Set(NODEPORT_IPS, (x.destination(family),)),
        Set(HAIRPINS, (x.source(family), *address)),
        Set(SERVICE_IPS, address, "verdict"),
        Set(SERVICE_NODEPORTS, node, "verdict"),
        Set(NO_ENDPOINT_SERVICES, address, "verdict"),
        Set(NO_ENDPOINT_NODEPORTS, node, "verdict"),
        Set(ENDPOINTS, (*address, slot), target),
        Set(NODEPORT_ENDPOINTS, (*node, slot), target),
    )


def _chains(family: int, settings: Settings) -> tuple[Chain, ...]:
    address, node = _address_key(family), _node_key()
    new = x.connection("state", "new")
    services_check, cluster_check = rule(new, x.jump("service-endpoints-check")), rule(new, x.jump("cluster-ips-check"))
    node_check = rule(new, x.jump("nodeport-endpoints-check"))
    to_services = (rule(x.jump("services")),)
    on_node = x.member((x.destination(family),), family, NODEPORT_IPS)
    return (
        Chain(REJECT_CHAIN, (rule(x.reject(family)),)),
        Chain("services", _services(family, settings)),
        Chain("masquerading", _masquerading(family)),
        Chain("service-endpoints-check", (rule(x.dispatch(address, family, NO_ENDPOINT_SERVICES)),)),
        Chain("nodeport-endpoints-check", (rule(on_node, x.dispatch(node, family, NO_ENDPOINT_NODEPORTS)),)),
        Chain("cluster-ips-check", (rule(x.member((x.destination(family),), family, CLUSTER_IPS), x.reject(family)),)),
        Chain("filter-input", (node_check, services_check), Hook("filter", "input", 0)),
        Chain("filter-forward", (services_check, cluster_check), Hook("filter", "forward", 0)),
        Chain("filter-output", (services_check, cluster_check), Hook("filter", "output", 0)),
        Chain("nat-prerouting", to_services, Hook("nat", "prerouting", -100)),
        Chain("nat-output", to_services, Hook("nat", "output", -100)),
        Chain("nat-postrouting", (rule(x.jump("masquerading")),), Hook("nat", "postrouting", 100)),
    )


def _services(family: int, settings: Settings) -> tuple[Rule, ...]:
    """Addresses before node ports, so that a node address used as an external IP is that Service's (A7)."""
    network, address = settings.network(family), (x.destination(family),)
    detect: tuple[Rule, ...] = ()
    if network is not None and network.prefixlen:
        off_cluster = x.inside(x.source(family), family, network, negate=True)
        detect = (rule(off_cluster, x.member(address, family, CLUSTER_IPS), x.mark(MARK)),)
    loopback = ip_network("127.0.0.0/8" if family == 4 else "::1/128")
    guard = x.inside(x.destination(family), family, loopback, negate=True)
    on_node = x.member(address, family, NODEPORT_IPS)
    return (
        *detect,
        rule(x.dispatch(_address_key(family), family, SERVICE_IPS)),
        rule(guard, on_node, x.dispatch(_node_key(), family, SERVICE_NODEPORTS)),
    )


def _masquerading(family: int) -> tuple[Rule, ...]:
    hairpin = x.member((x.source(family), *_address_key(family)), family, HAIRPINS)
    return (
        rule(x.marked(MARK), x.unmark(MARK), x.masquerade()),
        rule(x.connection("status", "dnat"), hairpin, x.masquerade()),
    )


def _shared(name: str, family: int, settings: Settings) -> tuple[Chain, ...]:
    """Builds a shared chain from its name.

    `cluster-K`, `node-K`: choose among all endpoints of an address or a node port. `external-K`, `nodeport-K`: the
    same, masqueraded. `local-L`, `node-local-L`: choose among the node's own. `external-local-K-L`,
    `nodeport-local-K-L`: the node's own connections go anywhere masqueraded, pods' go anywhere, all others to local
    endpoints (C1); with L = 0 those fall through to the no-endpoints check.
    """
    kind, *counts = _split(name)
    if kind in ("cluster", "node", "local", "node-local"):
        return (Chain(name, _choice(kind, counts[0], family)),)
    plain = "cluster" if kind.startswith("external") else "node"
    if kind in ("external", "nodeport"):
        below = f"{plain}-{counts[0]}"
        return (*_shared(below, family, settings), Chain(name, (rule(x.mark(MARK)), rule(x.goto(below)))))
    everywhere, count = f"{kind.removesuffix('-local')}-{counts[0]}", counts[0]
    rules = [rule(x.from_this_node(), x.goto(everywhere))]
    local: tuple[Chain, ...] = ()
    network = settings.network(family)
    if network is not None:
        pods = (x.inside(x.source(family), family, network),) if network.prefixlen else ()
        rules.append(rule(*pods, x.goto(f"{plain}-{count}")))
    if counts[1]:
        target = f"{'local' if plain == 'cluster' else 'node-local'}-{counts[1]}"
        local = _shared(target, family, settings)
        rules.append(rule(x.goto(target)))
    return (*_shared(everywhere, family, settings), *local, Chain(name, tuple(rules)))


def _split(name: str) -> tuple[str, *tuple[int, ...]]:
    words = name.split("-")
    numbers = tuple(int(word) for word in words if word.isdigit())
    return "-".join(words[: len(words) - len(numbers)]), *numbers


def _choice(kind: str, size: int, family: int) -> tuple[Rule, ...]:
    offset = LOCAL_OFFSET if kind.endswith("local") else 0
    key = _node_key() if kind.startswith("node") else _address_key(family)
    name = NODEPORT_ENDPOINTS if kind.startswith("node") else ENDPOINTS
    moduli = [size] * (TRIES if size > 2 else 1) + ([size // 2] if size > 1 else [])
    return tuple(rule(x.translate((*key, x.random(modulus, offset)), family, name)) for modulus in moduli)
