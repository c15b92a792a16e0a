"""What the stock `nft` reads from a node's kernel, and what it must be by the Kubernetes objects. For end-to-end tests.

Both are computed without the product's own code, so that the two can be held against each other.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tools.lab.fabric import Node
from tools.lab.manifests import Object
from tools.lab.netns import Namespace
from tools.lab.rest import Rest, path_to
from tools.lab.rules import nft

FAMILIES = {4: "ip", 6: "ip6"}
SLICES = ("discovery.k8s.io/v1", "EndpointSlice")
Frontend = tuple[int, str, str, int]  # family, address ("" for a node port), protocol, port
Target = tuple[str, int]


@dataclass(frozen=True)
class Tables:
    """The content of both families' tables. `loops`: endpoints that may be sent to themselves (hairpin)."""

    endpoints: dict[Frontend, frozenset[Target]]
    refused: frozenset[Frontend]
    cluster_ips: frozenset[str]
    node_addresses: frozenset[str]
    loops: frozenset[tuple[str, str, int]]


# ---------------------------------------------------------------- as the kernel has it


def listing(space: Namespace, family: int) -> list[Object]:
    """`nft -j list table`, without the first entry, which is about nft."""
    entries: list[Object] = json.loads(nft(space, "-j", "list", "table", FAMILIES[family], "deltaplane"))["nftables"]
    return entries[1:]


def steady(space: Namespace, family: int) -> list[Object]:
    """`listing` without what packets write into sets, and how long it stays: equal as long as nobody writes rules."""
    return [_unwritten(entry) for entry in listing(space, family)]


def _unwritten(entry: Object) -> Object:
    ((kind, found),) = entry.items()
    if kind not in ("set", "map") or "timeout" not in found.get("flags", ()):
        return entry
    return {kind: {key: value for key, value in found.items() if key != "elem"}}


def read(space: Namespace) -> Tables:
    """Both tables. Asserts that slots are numbered densely and that each frontend's chain is of the right size."""
    found = [_read_family(space, family) for family in FAMILIES]
    endpoints = {key: targets for one in found for key, targets in one.endpoints.items()}
    return Tables(
        endpoints,
        frozenset().union(*(one.refused for one in found)),
        frozenset().union(*(one.cluster_ips for one in found)),
        frozenset().union(*(one.node_addresses for one in found)),
        frozenset().union(*(one.loops for one in found)),
    )


def _read_family(space: Namespace, family: int) -> Tables:
    elements = {body["name"]: body.get("elem", []) for entry in listing(space, family) for body in entry.values()
                if "map" in entry or "set" in entry}  # fmt: skip
    slots: dict[Frontend, dict[int, Target]] = {}
    for *frontend, slot, target in _pairs(elements, "endpoints", "nodeport-endpoints"):
        assert slots.setdefault(_frontend(family, frontend), {}).setdefault(slot, target) == target
    chains = {_frontend(family, key): goto for *key, goto in _pairs(elements, "service-ips", "service-nodeports")}
    assert chains.keys() == slots.keys()
    for key, by_slot in slots.items():
        assert by_slot.keys() == set(range(len(by_slot))), f"{key}: slots {sorted(by_slot)}"
        assert chains[key].endswith(f"-{_power_of_two(len(by_slot))}"), f"{key}: {len(by_slot)} in {chains[key]}"
        assert len(set(by_slot.values())) == len(by_slot), f"{key}: an endpoint stands twice"
    refusals = {_frontend(family, key): goto for *key, goto in _pairs(elements, *_REFUSALS)}
    assert set(refusals.values()) <= {"reject-chain"}
    loops = frozenset((str(one[1]), str(one[2]), int(one[3])) for one in map(_parts, elements["hairpin-connections"]))
    return Tables(
        {key: frozenset(by_slot.values()) for key, by_slot in slots.items()},
        frozenset(refusals),
        frozenset(elements["cluster-ips"]),
        frozenset(elements["nodeport-ips"]),
        loops,
    )


_REFUSALS = ("no-endpoint-services", "no-endpoint-nodeports")


def _pairs(elements: dict[str, list[Any]], *names: str) -> Iterator[list[Any]]:
    """Each element's key parts with its value at the end: the target of a goto, or (address, port)."""
    for name in names:
        for key, value in elements[name]:
            plain = value["goto"]["target"] if "goto" in value else tuple(value["concat"])
            yield [*_parts(key), plain]


def _parts(key: Any) -> list[Any]:
    return list(key["concat"])


def _frontend(family: int, parts: Iterable[Any]) -> Frontend:
    *address, protocol, port = parts
    return family, str(address[0]) if address else "", str(protocol), int(port)


def _power_of_two(count: int) -> int:
    return max(4, 1 << (count - 1).bit_length())


def generation(space: Namespace) -> int:
    """The number of the last nftables transaction in this namespace, whoever made it (NFT_MSG_GETGEN)."""
    get, request = 10 << 8 | 16, 1  # linux/netfilter/nfnetlink.h, nf_tables.h
    with space.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        netlink.settimeout(5)
        netlink.send(struct.pack("=IHHIIBBH", 20, get, request, 1, 0, 0, 0, 0))
        answer = netlink.recv(4096)
    assert struct.unpack_from("=HH", answer, 20) == (8, 1)  # NFTA_GEN_ID
    return int.from_bytes(answer[24:28], "big")


# ---------------------------------------------------------------- as the API has it


def objects_of(api: Rest) -> tuple[list[Object], list[Object]]:
    """All Services and all slices."""
    return api.call("GET", path_to("v1", "Service"))["items"], api.call("GET", path_to(*SLICES))["items"]


def wanted(services: Iterable[Object], slices: Iterable[Object], node: Node) -> Tables:
    """What these objects mean for this node: ClusterIP and NodePort Services with ready endpoints."""
    all_slices = list(slices)
    endpoints: dict[Frontend, frozenset[Target]] = {}
    refused: set[Frontend] = set()
    addresses: set[str] = set()
    loops: set[tuple[str, str, int]] = set()
    nameless = {
        one["addresses"][0] for part in all_slices for one in part["endpoints"] or () if not one.get("nodeName")
    }
    for service in services:
        for address in service["spec"]["clusterIPs"]:
            addresses.add(address)
            family = ipaddress.ip_address(address).version
            for port in service["spec"]["ports"]:
                targets = frozenset(_targets(service, port, family, all_slices))
                protocol = port["protocol"].lower()
                frontends = [(family, address, protocol, port["port"])]
                if port.get("nodePort"):
                    frontends.append((family, "", protocol, port["nodePort"]))
                if targets:
                    endpoints.update(dict.fromkeys(frontends, targets))
                else:
                    refused.update(frontends)
                here = [target for target in targets if target[0] in nameless or _is_pod_of(target[0], node)]
                loops.update((ip, protocol, number) for ip, number in here)
    node_addresses = frozenset((node.address(4), node.address(6)))
    return Tables(endpoints, frozenset(refused), frozenset(addresses), node_addresses, frozenset(loops))


def _targets(service: Object, port: Object, family: int, slices: list[Object]) -> Iterator[Target]:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    for part in slices:
        meta = part["metadata"]
        if (meta["namespace"], meta["labels"].get("kubernetes.io/service-name")) != (namespace, name):
            continue
        if part["addressType"] != f"IPv{family}":
            continue
        numbers = [
            one["port"]
            for one in part["ports"] or ()
            if one.get("port") and (one["name"] or "", one["protocol"]) == (port.get("name", ""), port["protocol"])
        ]
        for endpoint in part["endpoints"] or ():
            if endpoint.get("conditions", {}).get("ready") is not False:
                yield from ((endpoint["addresses"][0], number) for number in numbers)


def _is_pod_of(address: str, node: Node) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(cidr) for cidr in node.pod_cidrs)
