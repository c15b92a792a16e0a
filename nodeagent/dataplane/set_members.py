"""Members of the sets that nftables and userspace mode have besides their maps, as bytes. Pure.

A member is a byte for the family, a byte for the set (its place in `SETS`), then the element's key; a range has its
first and its last address there.
"""

from __future__ import annotations

from deltaplane.forwarding import FrontendKind, Hairpin, NodeForwarding, ServiceForwarding
from deltaplane.model import PROTOCOL_NAMES, WIDTHS, family_of
from deltaplane.names import shown_address
from nodeagent.dataplane import widths
from nodeagent.linux.nft.ranges import merged, without

CLUSTER_IPS, NODEPORT_IPS, HAIRPINS = "cluster-ips", "nodeport-ips", "hairpin-connections"
SERVICE_CIDRS, NODEPORT_ANYWHERE = "service-cidrs", "nodeport-anywhere"
OWN_PODS = "own-pods"  # this node's pod CIDRs
SETS = (CLUSTER_IPS, HAIRPINS, NODEPORT_IPS, SERVICE_CIDRS, NODEPORT_ANYWHERE, OWN_PODS)
CLUSTER_IP_MEMBER, HAIRPIN_MEMBER, NODE_PORT_MEMBER, SERVICE_CIDR_MEMBER, ANYWHERE_MEMBER, OWN_POD_MEMBER = range(6)
RANGE_MEMBERS = (SERVICE_CIDR_MEMBER, OWN_POD_MEMBER)
_CLUSTER_IP, _HAIRPIN = (
    {family: bytes((family, number)) for family in WIDTHS} for number in (CLUSTER_IP_MEMBER, HAIRPIN_MEMBER)
)
OF_NODE = (NODE_PORT_MEMBER, SERVICE_CIDR_MEMBER, ANYWHERE_MEMBER, OWN_POD_MEMBER)
_NAMES = (
    *("cluster IP", "hairpin connection", "node port address", "service CIDR from"),
    *("all node port addresses of", "pod CIDR from"),
)


def members(service: ServiceForwarding) -> tuple[bytes, ...]:
    """The members that a Service needs, each once: its ClusterIPs and its hairpin connections."""
    found = [*cluster_ips(service), *(_hairpin(hairpin) for hairpin in service.hairpins)]
    return tuple(dict.fromkeys(found))


def cluster_ips(service: ServiceForwarding) -> list[bytes]:
    addresses = (e.frontend for e in service.entries if e.frontend.kind == FrontendKind.CLUSTER_IP)
    return [_CLUSTER_IP[f.family] + f.address for f in addresses]


def _hairpin(hairpin: Hairpin) -> bytes:
    address, protocol, port = hairpin
    return b"%b%b%b%c\0\0\0%b\0\0" % (_HAIRPIN[family_of(address)], address, address, protocol, port.to_bytes(2, "big"))


def node_members(node: NodeForwarding) -> tuple[bytes, ...]:
    """The node's members (`OF_NODE`), without loopback addresses (B5, B6). Raises ValueError."""
    widths.check_addresses(node.node_port_addresses)
    fit = (address for address in node.node_port_addresses if not _is_loopback(address))
    found = [bytes((family_of(address), NODE_PORT_MEMBER)) + address for address in fit]
    for family in WIDTHS:
        services, taken, pods = (
            merged(c for c in cidrs if (":" in c) is (family == 6))
            for cidrs in (node.service_cidrs, node.taken_cidrs, node.pod_cidrs)
        )
        for number, ranges in ((SERVICE_CIDR_MEMBER, without(services, taken)), (OWN_POD_MEMBER, pods)):
            found += [bytes((family, number)) + first + last for first, last in ranges]
    anywhere = node.match_all_families
    found += [bytes((family, ANYWHERE_MEMBER, number)) for family in anywhere for number in PROTOCOL_NAMES]
    return tuple(dict.fromkeys(found))


def _is_loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\x01"


def name_of(member: bytes) -> str:
    """A member for people, such as cluster IP 10.96.0.1."""
    return f"{_NAMES[member[1]]} {shown_address(member[2 : 2 + WIDTHS[member[0]]])}"
