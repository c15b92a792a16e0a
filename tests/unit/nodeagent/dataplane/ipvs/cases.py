"""Named states of the Services, and what IPVS, sets and link hold then: for the kernel in memory and the real one.

`picture` reads a kernel through the same netlink messages on both; `expected` says it from the entries alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from deltaplane.forwarding import Entry, FrontendKind, Masquerade, NodeForwarding, ServiceForwarding, Verdict
from nodeagent.dataplane.ipvs import inventory, names
from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.kernel import Kernel
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch
from nodeagent.dataplane.ipvs.objects import BY_MARK, VirtualKey
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.dataplane.ipvs.state import State
from tests.fakes.ipvs.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.nftables import walks

SETTINGS = Settings(cluster_cidrs=("10.180.0.0/16", "fd00:10:180::/48"))
NODE, NODE_ADDRESSES, STATES = walks.NODE, walks.NODE_ADDRESSES, walks.STATES
both, cluster_ip, external, key, local_policy = (
    walks.both, walks.cluster_ip, walks.external, walks.key, walks.local_policy,
)  # fmt: skip
node_port, packed, service, sticky, targets = (
    walks.node_port, walks.packed, walks.service, walks.sticky, walks.targets,
)  # fmt: skip
EXTERNAL, RANGES, VIP = walks.EXTERNAL, walks.RANGES, walks.VIP

Picture = dict[str, set[Any]]


def picture(kernel: Kernel, families: tuple[int, ...] = (4, 6)) -> Picture:
    """Everything of ours in the kernel, marks as what they lead to."""
    state = State()
    inventory.read(NetlinkBatch(kernel), state, families)
    found: Picture = {}
    for virtual, held in state.virtuals.items():
        if virtual.protocol != BY_MARK:
            found.setdefault("virtual", set()).add((virtual, held.manner))
            found.setdefault("real", set()).update((virtual, *item) for item in held.reals.items())
    for virtual, mark in state.marks.items():
        led = state.virtuals[VirtualKey(virtual.family, BY_MARK, b"", mark)]
        found.setdefault("outside", set()).add((virtual, led.manner, frozenset(led.reals)))
    strays = [v for v in state.virtuals if v.protocol == BY_MARK and v.port not in state.marks.values()]
    assert not strays
    for element in state.elements:
        if element.set != names.OUTSIDE_MARK:
            found.setdefault(element.set, set()).add((element.family, element.key))
    return {name: members for name, members in found.items() if members}


def expected(state: tuple[ServiceForwarding, ...], node: NodeForwarding = NODE) -> Picture:
    """What must be there for these Services; real servers all have weight 1."""
    found: Picture = {}
    for one in state:
        for entry in one.entries:
            width = 4 if entry.frontend.family == 4 else 16
            own = [a for a in node.node_port_addresses if len(a) == width]
            for address in own if entry.frontend.kind == FrontendKind.NODE_PORT else [entry.frontend.address]:
                for name, value in _expected(entry, address):
                    found.setdefault(name, set()).add(value)
        for address, protocol, port in one.hairpins:
            family = 4 if len(address) == 4 else 6
            value = (family, names.place(address, protocol, port) + address)
            found.setdefault(names.LOOP_BACK, set()).add(value)
    return found


def _expected(entry: Entry, address: bytes) -> Iterator[tuple[str, Any]]:
    front = entry.frontend
    virtual = VirtualKey(front.family, front.protocol, address, front.port)
    manner = ("rr", 1 if entry.affinity_seconds else 0, entry.affinity_seconds)
    where = names.place(address, front.protocol, front.port)
    yield from _refusals(entry, where)
    if entry.verdict is not Verdict.DROP:
        yield "virtual", (virtual, manner)
        yield from (("real", (virtual, target, 1)) for target in entry.targets)
    if entry.local_targets not in (None, entry.targets) and entry.external_verdict is not Verdict.DROP:
        hashed = ("mh", 8, 0) if entry.affinity_seconds else manner
        yield "outside", (virtual, hashed, frozenset(entry.local_targets or ()))
    for name in _set_names(entry):
        is_port = front.kind == FrontendKind.NODE_PORT and front.protocol != 132
        yield name, (front.family, front.port.to_bytes(2, "big") if is_port else where)
    if front.kind != FrontendKind.NODE_PORT:
        yield names.ADDRESS, (front.family, address)
        yield names.IPVS_IPS, (front.family, address)
    for text in entry.source_ranges:
        network = ip_network(text)
        yield names.LOAD_BALANCER_FW, (front.family, where)
        key_ = where + network.network_address.packed + bytes((network.prefixlen,))
        yield names.SOURCE_CIDR, (front.family, key_)


def _refusals(entry: Entry, where: bytes) -> Iterator[tuple[str, Any]]:
    family = entry.frontend.family
    if entry.verdict is Verdict.DROP:
        yield names.DROP, (family, where)
    if entry.verdict is Verdict.REJECT and (family, entry.frontend.protocol) == (6, 6):
        yield names.RESET, (6, where)
    if entry.local_targets is not None and entry.external_verdict is Verdict.DROP:
        yield names.DROP_OUTSIDE, (family, where)


def _set_names(entry: Entry) -> list[str]:
    local, kind = entry.masquerade is Masquerade.NODE_ONLY, entry.frontend.kind
    if kind == FrontendKind.CLUSTER_IP:
        return [names.CLUSTER_IP]
    if kind == FrontendKind.EXTERNAL_IP:
        return [names.EXTERNAL_IP_LOCAL if local else names.EXTERNAL_IP]
    first, second = (
        (names.NODE_PORT[entry.frontend.protocol], names.NODE_PORT_LOCAL[entry.frontend.protocol])
        if kind == FrontendKind.NODE_PORT
        else (names.LOAD_BALANCER, names.LOAD_BALANCER_LOCAL)
    )
    return [first, second] if local else [first]


def started(kernel: MemoryKernel, settings: Settings = SETTINGS) -> IpvsDataplane:
    dataplane = IpvsDataplane(kernel, settings)
    dataplane.start()
    return dataplane
