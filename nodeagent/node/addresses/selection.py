"""On which addresses node ports answer: the meaning of `nodePortAddresses`. Pure; called by `node_ports`.

Follows kube-proxy 1.36 in nftables mode (pkg/proxy/util/nodeport_addresses.go, cmd/kube-proxy/app/server.go); row ids
are those of docs/behaviour.md. Where kube-proxy looks at the machine once or at a full sync, this is asked again with
every change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from msgspec import Struct

from deltaplane.forwarding import NodeForwarding
from deltaplane.model import Family, family_of

PRIMARY = "primary"
Network = IPv4Network | IPv6Network


class Policy(Struct, frozen=True):
    """What the operator asked for: the Node object's first address of each family, or what is in these networks."""

    primary: bool
    networks: tuple[Network, ...] = ()


class Selection(Struct, frozen=True):
    """The answer, and what the operator should know of it, a line each."""

    forwarding: NodeForwarding
    notes: tuple[str, ...] = ()


def parse(texts: Sequence[str]) -> Policy:
    """The policy of ("primary",), or of a list of CIDRs in canonical text; none: every address. Raises ValueError.

    What holds where nothing is configured (B1) is not decided here: `nodeagent.config` has put "primary" in its place.
    """
    if tuple(texts) == (PRIMARY,):
        return Policy(primary=True)
    return Policy(primary=False, networks=tuple(map(ip_network, texts)))


def select(policy: Policy, local: Iterable[bytes], node: Sequence[bytes]) -> Selection:
    """Where node ports answer, given this machine's addresses and the Node object's (in its order), all packed.

    A Node without any usable address closes node ports under "primary" (L2).
    """
    return _primary(node) if policy.primary else _inside(policy.networks, local)


def _primary(node: Sequence[bytes]) -> Selection:
    """The first address of each family, loopback ones left out (B2).

    kube-proxy makes CIDRs of them, so a family without one counts as one without a CIDR (B4): IPv6 node ports answer
    everywhere on a node whose IPv6 address is unknown. With no address at all it would open everything; this does not.
    """
    first: dict[Family, bytes] = {}
    for address in node:
        first.setdefault(family_of(address), address)
    chosen = {family: address for family, address in first.items() if not ip_address(address).is_loopback}
    if not chosen:
        return Selection(NodeForwarding(), ("the Node object has no usable address: node ports are closed",))
    everywhere = tuple(family for family in Family if family not in chosen)
    notes = (f"the Node object has no {_name(family)} address: {_everywhere(family)}" for family in everywhere)
    return Selection(_forwarding(chosen.values(), everywhere), tuple(notes))


def _inside(networks: Sequence[Network], local: Iterable[bytes]) -> Selection:
    """Those of the machine's addresses that are in a network (B3, B7, B8), never loopback ones (B5, B6)."""
    mine = [ip_address(address) for address in local]
    chosen: list[bytes] = []
    everywhere: list[Family] = []
    notes: list[str] = []
    for family in Family:
        wanted = [network for network in networks if network.version == family]
        if not wanted:  # B4
            notes.append(f"nodePortAddresses has no {_name(family)} network: {_everywhere(family)}")
        if not wanted or any(network.prefixlen == 0 for network in wanted):
            everywhere.append(family)
            continue
        found = sorted(address for address in mine if any(address in network for network in wanted))
        chosen += (address.packed for address in found if not address.is_loopback)
        notes += (
            f"nodePortAddresses has {each}: no node port answers on loopback" for each in found if each.is_loopback
        )
    return Selection(_forwarding(chosen, everywhere), tuple(notes))


def _forwarding(chosen: Iterable[bytes], everywhere: Iterable[Family]) -> NodeForwarding:
    return NodeForwarding(tuple(sorted(chosen)), match_all_families=tuple(map(int, everywhere)))


def _name(family: Family) -> str:
    return f"IPv{int(family)}"


def _everywhere(family: Family) -> str:
    return f"{_name(family)} node ports answer on every address but loopback"
