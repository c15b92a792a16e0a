"""Packet traces: who gets where through which address, evaluated from the text that was sent."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Frontend, FrontendKind, HealthCheck, NodeForwarding, Verdict
from nodeagent.dataplane.iptables.settings import Settings
from tests.unit.nodeagent.dataplane.iptables.tracing import follow, programmed, send, sorted_tables
from tests.unit.nodeagent.dataplane.nftables.tracing import (
    BLOCKED,
    HOST,
    OTHER_POD,
    OUTSIDE,
    POD,
    reaches,
    stopped,
    untouched,
)
from tests.unit.nodeagent.dataplane.nftables.walks import (
    EXTERNAL,
    NODE,
    RANGES,
    VIP,
    cluster_ip,
    external,
    local_policy,
    node_port,
    packed,
    service,
    sticky,
    targets,
)
from tests.unit.nodeagent.dataplane.policies import ADDRESSES, ALL, LOCAL, SOURCES, entries, outcome

CIDRS = ("10.180.0.0/16",)
SETTINGS = {
    "detector": Settings(CIDRS),
    "none": Settings(),
    "all": Settings(CIDRS, masquerade_all=True),
    "none, all": Settings(masquerade_all=True),
    "bridge": Settings(interface="cni0"),
    "prefix": Settings(interface="veth*", masquerade_bit=3),
}
EVERYWHERE = NodeForwarding((), (4, 6))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("policy", ["cluster", "internal local", "external local"])
def test_every_cell_of_the_table_of_policies(policy: str, source: str, address: str, settings: str) -> None:
    web = service("web", *entries(policy))
    numbers, hidden = outcome(policy, source, address, settings)
    interface = {"bridge": "cni0", "prefix": "veth7"}.get(settings, "eth0") if source == "pod" else "eth0"
    to, port = ADDRESSES[address]
    found = follow(web, source=SOURCES[source], to=to, port=port, settings=SETTINGS[settings], interface=interface)
    assert found == reaches(*numbers, masqueraded=hidden)


@pytest.mark.parametrize("affinity", [0, 60])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_cluster_ip_reaches_every_endpoint(count: int, affinity: int) -> None:
    web = service("web", sticky(cluster_ip("172.30.0.1", targets(*range(1, count + 1))), affinity))
    found = follow(web, source=POD, to="172.30.0.1", port=80)
    assert found == reaches(*range(1, count + 1), masqueraded=False)


def test_ipv6_is_its_own_program() -> None:
    web = service("web", cluster_ip("fd00:10:96::1", targets(1, 2, 3, family=6)))
    found = follow(web, source="fd00:10:180:1::77", to="fd00:10:96::1", port=80)
    assert found == reaches(1, 2, 3, masqueraded=False, family=6)
    found = follow(web, source="2001:db8:f::2", to="fd00:10:96::1", port=80)
    assert found == reaches(1, 2, 3, masqueraded=True, family=6)


@pytest.mark.parametrize("source", [POD, HOST, OUTSIDE])
def test_no_endpoints_refuses_everybody_everywhere(source: str) -> None:
    web = service("web", cluster_ip("172.30.0.1", ()), node_port(30080, ()), external(VIP, (), RANGES))
    for to, port in (("172.30.0.1", 80), ("198.51.100.7", 80), (HOST, 30080)):
        if source == HOST and to != "172.30.0.1":
            continue  # the external chain is not asked by the node's own packets (F2)
        assert follow(web, source=source, to=to, port=port) == stopped("reject")


def test_internal_policy_without_an_endpoint_here_drops() -> None:
    inside = replace(cluster_ip("172.30.0.1", (), empty=Verdict.DROP), local_policy=True)
    web = service("web", inside, external(EXTERNAL, targets(1)))
    assert follow(web, source=POD, to="172.30.0.1", port=80) == stopped("drop")
    assert follow(web, source=POD, to="203.0.113.9", port=80) == reaches(1, masqueraded=True)


@pytest.mark.parametrize("front", [EXTERNAL, VIP, Frontend(FrontendKind.NODE_PORT, 4, b"", 6, 80)])
def test_external_policy_without_an_endpoint_here_drops_outsiders_and_other_nodes_pods(front: Frontend) -> None:
    web = service("web", local_policy(front, targets(*ALL), ()))
    to = HOST if not front.address else {EXTERNAL: "203.0.113.9", VIP: "198.51.100.7"}[front]
    assert follow(web, source=OUTSIDE, to=to, port=80) == stopped("drop")
    assert follow(web, source=POD, to=to, port=80) == reaches(*ALL, masqueraded=False)
    assert follow(web, source=OTHER_POD, to=to, port=80) == stopped("drop")
    assert follow(web, source=HOST, to=to, port=80) == reaches(*ALL, masqueraded=True)


def test_where_all_of_the_cluster_cidr_is_this_nodes_every_pod_is() -> None:
    """C1: as it is told where the Node has no pod CIDRs, and as with kube-proxy."""
    unknown, expected = replace(NODE, pod_cidrs=("10.180.0.0/16",)), reaches(*ALL, masqueraded=False)
    for local in (LOCAL, ()):
        web = service("web", local_policy(VIP, targets(*ALL), targets(*local)))
        for source in (POD, OTHER_POD):
            assert follow(web, source=source, to="198.51.100.7", port=80, node=unknown) == expected


@pytest.mark.parametrize("made", [Settings(("10.180.1.0/24",), node_only=True), Settings(interface="cni0")])
def test_a_detector_of_this_nodes_pods_leaves_other_nodes_pods_outside(made: Settings) -> None:
    """I5: NodeCIDR and the interfaces, whatever the Node says of its pod CIDRs."""
    web = service("web", local_policy(VIP, targets(*ALL), ()))
    for node in (NODE, replace(NODE, pod_cidrs=())):
        found = follow(web, source=POD, to="198.51.100.7", port=80, settings=made, node=node, interface="cni0")
        assert found == reaches(*ALL, masqueraded=False)
        assert follow(web, source=OTHER_POD, to="198.51.100.7", port=80, settings=made, node=node) == stopped("drop")


def test_where_every_address_is_a_pods_all_are_this_nodes() -> None:
    """A cluster CIDR of /0 tells nothing; pod CIDRs that are not in the cluster CIDR make nobody a pod."""
    web = service("web", local_policy(VIP, targets(*ALL), ()))
    for source in (POD, OTHER_POD, OUTSIDE):
        found = follow(web, source=source, to="198.51.100.7", port=80, settings=Settings(("0.0.0.0/0",)))
        assert found == reaches(*ALL, masqueraded=False)
    everywhere = replace(NODE, pod_cidrs=("0.0.0.0/0",))
    assert follow(web, source=OUTSIDE, to="198.51.100.7", port=80, node=everywhere) == stopped("drop")
    assert follow(web, source=OTHER_POD, to="198.51.100.7", port=80, node=everywhere).ends


def test_other_pod_cidrs_of_the_node_change_the_services_with_policy_local_alone() -> None:
    """L3: one chain of each is written, and nothing for Services whose policy does not ask whose pods there are."""
    web = service("web", local_policy(VIP, targets(*ALL), ()))
    plain = service("plain", cluster_ip("172.30.0.1", targets(1)), external(EXTERNAL, targets(1)))
    dataplane, kernel = programmed(web, plain)
    before = sorted_tables(kernel)
    done = dataplane.apply([], replace(NODE, pod_cidrs=("10.180.2.0/24", NODE.pod_cidrs[1])))
    assert (done.failed, done.messages) == ((), 1)
    changed = {
        (where, name)
        for where, chains in sorted_tables(kernel).items()
        for name, rules in chains.items()
        if before[where].get(name) != rules
    }
    assert [(where, name[:9]) for where, name in changed] == [((4, "nat"), "KUBE-EXT-")]
    assert send(kernel, source=OTHER_POD, to="198.51.100.7", port=80) == reaches(*ALL, masqueraded=False)
    assert send(kernel, source=POD, to="198.51.100.7", port=80) == stopped("drop")


def test_source_ranges_close_the_load_balancer_only() -> None:
    web = service(
        "web", cluster_ip("172.30.0.1", targets(1)), external(VIP, targets(1), RANGES), node_port(80, targets(1))
    )
    assert follow(web, source=OUTSIDE, to="198.51.100.7", port=80) == reaches(1, masqueraded=True)
    assert follow(web, source=BLOCKED, to="198.51.100.7", port=80) == stopped("drop")
    assert follow(web, source=BLOCKED, to=HOST, port=80) == reaches(1, masqueraded=True)


def test_protocols_stay_separate() -> None:
    dns = service("dns", *(cluster_ip("172.30.0.1", targets(n), 53, p) for n, p in ((1, 17), (2, 6), (3, 132))))
    for number, protocol in ((1, 17), (2, 6), (3, 132)):
        found = follow(dns, source=POD, to="172.30.0.1", port=53, protocol=protocol)
        assert found == reaches(number, masqueraded=False)


def test_a_pod_that_reaches_itself_is_masqueraded_and_only_then() -> None:
    found = follow(
        service("web", cluster_ip("172.30.0.1", targets(1, 2))), source="10.180.1.1", to="172.30.0.1", port=80
    )
    first, second = targets(1, 2)
    assert found.ends == {(first.address, 8080, True), (second.address, 8080, False)}


def test_node_ports_answer_where_they_are_told_to() -> None:
    web = service("web", node_port(30080, targets(1)), node_port(30080, targets(1, family=6), family=6))
    assert follow(web, source=POD, to="192.168.1.2", port=30080) == untouched("192.168.1.2", 30080)
    assert follow(web, source=POD, to="192.168.1.2", port=30080, node=EVERYWHERE) == reaches(1, masqueraded=True)
    assert follow(web, source="::1", to="::1", port=30080, node=EVERYWHERE) == untouched("::1", 30080)


@pytest.mark.parametrize(
    ("settings", "node", "answers"),
    [
        (Settings(CIDRS), EVERYWHERE, True),
        (Settings(CIDRS, localhost_node_ports=False), EVERYWHERE, False),
        (Settings(CIDRS), NodeForwarding((packed(HOST),)), False),
        (Settings(CIDRS, node_port_networks=("127.0.0.0/8",)), NodeForwarding((packed(HOST),)), True),
        (Settings(CIDRS, node_port_networks=("192.168.0.0/16",)), NodeForwarding((packed(HOST),)), False),
    ],
)
def test_node_ports_on_loopback(settings: Settings, node: NodeForwarding, answers: bool) -> None:
    web = service("web", node_port(30080, targets(1)))
    found = follow(web, source="127.0.0.1", to="127.0.0.1", port=30080, settings=settings, node=node)
    assert found == (reaches(1, masqueraded=True) if answers else untouched("127.0.0.1", 30080))
    guarded = follow(web, source=OUTSIDE, to="127.0.0.1", port=22, settings=settings, node=node)
    assert guarded == (stopped("drop") if answers else untouched("127.0.0.1", 22))


def test_a_health_check_node_port_is_let_in() -> None:
    web = replace(service("web", local_policy(VIP, targets(1), ())), health_check=HealthCheck(32000, ((4, 0),)))
    assert follow(web, source=OUTSIDE, to=HOST, port=32000) == untouched(HOST, 32000)
