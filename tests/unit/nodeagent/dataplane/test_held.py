"""What each kernel backend finds of frontends at its start, and the UDP flows that therefore go (J3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deltaplane.forwarding import Frontend, FrontendKind, ServiceForwarding, Target, Verdict
from nodeagent.conntrack.cleaner import Cleaner
from nodeagent.conntrack.places import Place
from nodeagent.dataplane.api import Dataplane, Held, Remembering
from nodeagent.dataplane.commit_hooks import Flows, Wanted
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.settings import Settings as IptablesSettings
from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.objects import Held as Virtual
from nodeagent.dataplane.ipvs.objects import Manner, VirtualKey
from nodeagent.dataplane.ipvs.settings import Settings as IpvsSettings
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.outcome import Commit
from tests.fakes.conntrack import MemoryTable, Tracked
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.ipvs.memory import MemoryKernel as MemoryIpvs
from tests.fakes.nftables.memory import MemoryKernel as MemoryNftables
from tests.unit.nodeagent.dataplane.nftables.walks import (
    NODE,
    NODE_ADDRESSES,
    SETTINGS,
    STATES,
    cluster_ip,
    external,
    local_policy,
    node_port,
    packed,
    service,
    targets,
)

CIDRS = SETTINGS.cluster_cidrs
IPVS = IpvsSettings(cluster_cidrs=CIDRS, exclude_cidrs=("192.0.2.0/24",))
Again = Callable[[], Any]  # a dataplane, started, on the kernel that the one before left


@pytest.fixture(params=["nftables", "iptables", "ipvs"])
def again(request: pytest.FixtureRequest) -> Again:
    nftables, iptables, ipvs = MemoryNftables(), MemoryIptables(), MemoryIpvs(addresses=map(packed, NODE_ADDRESSES))
    makers: dict[str, Callable[[], Dataplane]] = {
        "nftables": lambda: NftablesDataplane(nftables, SETTINGS),
        "iptables": lambda: IptablesDataplane(iptables, IptablesSettings(CIDRS)),
        "ipvs": lambda: IpvsDataplane(ipvs, IPVS),
    }

    def start() -> Dataplane:
        made = makers[request.param]()
        made.start()
        return made

    return start


def said(*services: ServiceForwarding) -> set[Held]:
    fronts = (entry.frontend for one in services for entry in one.entries)
    return {Held(front.family, front.address, front.protocol, front.port) for front in fronts}


def on_the_node(found: set[Held]) -> set[Held]:
    """The node ports among these, address by address, as virtual servers are."""
    own = [packed(text) for text in NODE_ADDRESSES]
    ports = [held for held in found if not held.address]
    return {held._replace(address=at) for held in ports for at in own if len(at) == (4 if held.family == 4 else 16)}


@pytest.mark.parametrize("name", STATES)
def test_a_start_finds_every_frontend_served_or_refused_and_nothing_else(again: Again, name: str) -> None:
    again().apply(STATES[name], NODE, complete=True)
    restarted = again()
    assert isinstance(restarted, Remembering)
    found, wanted = list(restarted.held()), said(*STATES[name])
    assert wanted <= set(found) <= wanted | on_the_node(wanted)
    assert len(found) == len(set(found))


def test_every_kind_protocol_and_family_is_found(again: Again) -> None:
    fronts = [
        *(cluster_ip("172.30.0.1", targets(1), 53, number) for number in (6, 17, 132)),
        *(cluster_ip("fd00:10:96::1", targets(1, family=6), 53, number) for number in (6, 17)),
        *(node_port(30053, targets(1), protocol=number) for number in (6, 17, 132)),
        node_port(30053, (), family=6, protocol=17),
        cluster_ip("172.30.0.2", (), 53, 17),
        cluster_ip("172.30.0.3", (), 53, 17, empty=Verdict.DROP),
    ]
    for kind, text in ((FrontendKind.EXTERNAL_IP, "203.0.113.9"), (FrontendKind.LOAD_BALANCER, "198.51.100.7")):
        fronts.append(external(Frontend(kind, 4, packed(text), 17, 53), targets(1)))
        fronts.append(local_policy(Frontend(kind, 4, packed(text), 17, 54), targets(1), ()))
    services = [service(f"dns{number}", front) for number, front in enumerate(fronts)]
    assert again().apply(services, NODE, complete=True).failed == ()
    found = set(again().held())
    assert found - on_the_node(found) == said(*services)


def test_nothing_is_found_where_nothing_was(again: Again) -> None:
    assert list(again().held()) == []


def test_flows_of_what_was_deleted_meanwhile_go_and_all_others_stay(again: Again) -> None:
    """J3 at a start, with J4 and J5."""
    gone = service("gone", cluster_ip("172.30.0.1", targets(1), 53, 17), node_port(30053, targets(1), protocol=17))
    kept = service("kept", cluster_ip("172.30.0.5", targets(2), 53, 17))
    again().apply([gone, kept], NODE, complete=True)
    own, there = packed(NODE_ADDRESSES[0]), packed("10.9.9.9")
    stale = [flow("172.30.0.1", 53, targets(1)[0]), flow(NODE_ADDRESSES[0], 30053, targets(1)[0])]
    fresh = [
        flow("172.30.0.5", 53, targets(2)[0]),  # its Service is there
        flow("172.30.0.1", 53, targets(1)[0], protocol=6),  # J5
        Tracked((there, 9), Place(packed("10.9.9.8"), 30053), Target(packed("10.9.9.8"), 30053)),  # J4: elsewhere
        Tracked((there, 9), Place(own, 9953), Target(own, 9953)),  # a server of the node's own
    ]
    table = MemoryTable([*stale, *fresh])
    restarted = again()
    flows = Flows(cleaner := Cleaner(table))
    flows.adopt(restarted)
    for services, node in (([kept], NODE), ([kept], None)):
        flows.want(Wanted(services, node, complete=node is not None))
        flows.committed(restarted.apply(services, node, complete=node is not None), 0.0)
        cleaner.clean()
        assert table.entries == fresh


def flow(to: str, port: int, source: Target, protocol: int = 17) -> Tracked:
    return Tracked((packed("198.51.100.99"), 40000), Place(packed(to), port), source, protocol)


# ---------------------------------------------------------------- what is not ours


def test_iptables_passes_over_what_is_no_frontend() -> None:
    kernel = MemoryIptables()
    IptablesDataplane(kernel, IptablesSettings(CIDRS)).start()
    lines = [
        "-p udp -m comment --comment x -m udp --dport 1:100 -j RETURN",
        "-p gre -m comment --comment x -j RETURN",
        "-s 10.0.0.0/8 -p udp -m comment --comment x -m udp --dport 53 -j RETURN",
        '-m comment --comment "-p udp -m udp --dport 53 " -j RETURN',
    ]
    kernel.tables[4, n.NAT][n.SERVICES] = lines
    again = IptablesDataplane(kernel, IptablesSettings(CIDRS))
    again.start()
    assert again.held() == []


def test_ipvs_leaves_out_virtual_servers_of_others_and_the_excluded_ones() -> None:
    kernel = MemoryIpvs(addresses=map(packed, NODE_ADDRESSES))
    dataplane = IpvsDataplane(kernel, IPVS)
    dataplane.start()
    assert dataplane.apply([service("x", cluster_ip("192.0.2.7", targets(1), 53, 17))], NODE, complete=True) != Commit()
    kernel.virtuals[VirtualKey(4, 17, packed("198.51.100.1"), 53)] = Virtual(Manner("rr", 0, 0))
    again = IpvsDataplane(kernel, IPVS)
    again.start()
    assert again.held() == []
