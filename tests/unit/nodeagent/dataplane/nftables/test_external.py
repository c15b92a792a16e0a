"""Who gets where through which address: every cell of the table of traffic policies, with its overrides (2.3)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Frontend, FrontendKind, Verdict
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.settings import Settings
from tests.unit.nodeagent.dataplane.nftables.tracing import (
    BLOCKED,
    HOST,
    OTHER_POD,
    OUTSIDE,
    POD,
    follow,
    programmed,
    reaches,
    send,
    stopped,
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
NOTHING_HERE = service(
    "web", *(replace(e, local_targets=(), external_verdict=Verdict.DROP) if e.local_targets else e
             for e in entries("external local"))
)  # fmt: skip


@pytest.mark.parametrize("affinity", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("policy", ["cluster", "external local", "internal local"])
def test_every_cell(policy: str, settings: str, affinity: bool) -> None:
    """C1 to C5, I2, I3, I5; session affinity changes none of it for a client's first connection."""
    made = entries(policy)
    web = service("web", *(map(sticky, made) if affinity else made))
    _, kernel = programmed(web, settings=SETTINGS[settings])
    for source, client in SOURCES.items():
        interface = {"pod": "cni0" if settings == "bridge" else "veth12"}.get(source, "eth0")
        for address, (to, port) in ADDRESSES.items():
            found = send(kernel, source=client, to=to, port=port, interface=interface)
            numbers, hidden = outcome(policy, source, address, settings)
            assert found == reaches(*numbers, masqueraded=hidden), (source, address)


@pytest.mark.parametrize("address", ["nodeport", "lb", "externalip"])
def test_nothing_local_drops_the_outside_and_other_nodes_pods(address: str) -> None:
    """C3: the short circuit for this node and its pods stays."""
    to, port = ADDRESSES[address]
    assert follow(NOTHING_HERE, source=OUTSIDE, to=to, port=port) == stopped("drop")
    assert follow(NOTHING_HERE, source=OTHER_POD, to=to, port=port) == stopped("drop")
    assert follow(NOTHING_HERE, source=POD, to=to, port=port) == reaches(*ALL, masqueraded=False)
    assert follow(NOTHING_HERE, source=HOST, to=to, port=port) == reaches(*ALL, masqueraded=True)


@pytest.mark.parametrize("address", ["nodeport", "lb", "externalip"])
def test_where_all_of_the_cluster_cidr_is_this_nodes_every_pod_is(address: str) -> None:
    """C1: as it is told where the Node has no pod CIDRs, and as with kube-proxy."""
    to, port = ADDRESSES[address]
    unknown = replace(NODE, pod_cidrs=CIDRS)
    for made in (service("web", *entries("external local")), NOTHING_HERE):
        for source in (POD, OTHER_POD):
            assert follow(made, source=source, to=to, port=port, node=unknown) == reaches(*ALL, masqueraded=False)
    assert follow(NOTHING_HERE, source=OUTSIDE, to=to, port=port, node=unknown) == stopped("drop")


@pytest.mark.parametrize("made", [Settings(("10.180.1.0/24",), node_only=True), Settings(interface="cni0")])
def test_a_detector_of_this_nodes_pods_leaves_other_nodes_pods_outside(made: Settings) -> None:
    """I5: NodeCIDR and the interfaces, whatever the Node says of its pod CIDRs."""
    to, port = ADDRESSES["nodeport"]
    for node in (NODE, replace(NODE, pod_cidrs=())):
        _, kernel = programmed(NOTHING_HERE, settings=made, node=node)
        found = send(kernel, source=POD, to=to, port=port, interface="cni0")
        assert found == reaches(*ALL, masqueraded=False)
        assert send(kernel, source=OTHER_POD, to=to, port=port) == stopped("drop")


def test_where_every_address_is_a_pods_all_are_this_nodes() -> None:
    """A cluster CIDR of /0 tells nothing; pod CIDRs that are not in the cluster CIDR make nobody a pod."""
    to, port = ADDRESSES["nodeport"]
    for source in (POD, OTHER_POD, OUTSIDE):
        found = follow(NOTHING_HERE, source=source, to=to, port=port, settings=Settings(("0.0.0.0/0",)))
        assert found == reaches(*ALL, masqueraded=False)
    everywhere = replace(NODE, pod_cidrs=("0.0.0.0/0",))
    assert follow(NOTHING_HERE, source=OUTSIDE, to=to, port=port, node=everywhere) == stopped("drop")


def test_other_pod_cidrs_of_the_node_change_one_set_alone() -> None:
    """L3: no rule and no frontend is written for it."""
    dataplane, kernel = programmed(NOTHING_HERE)
    to, port = ADDRESSES["nodeport"]
    before = dataplane.dump()
    done = dataplane.apply([], replace(NODE, pod_cidrs=("10.180.2.0/24", "fd00:10:180:2::/64")))
    assert (done.failed, done.elements) == ((), 8)  # of each family: two out, two in
    after = dataplane.dump()
    assert {name for family in (4, 6) for name in after[family] if after[family][name] != before[family][name]} == {
        "own-pods"
    }
    assert send(kernel, source=OTHER_POD, to=to, port=port) == reaches(*ALL, masqueraded=False)
    assert send(kernel, source=POD, to=to, port=port) == stopped("drop")


def test_pod_cidrs_that_stand_already_are_adopted() -> None:
    _, kernel = programmed(NOTHING_HERE)
    again = NftablesDataplane(kernel, Settings(("10.180.0.0/16", "fd00:10:180::/48")))
    again.start()
    assert again.apply([NOTHING_HERE], NODE, complete=True).messages == 0


@pytest.mark.parametrize("source", [POD, HOST, OUTSIDE])
@pytest.mark.parametrize(("verdict", "expected"), [(Verdict.REJECT, "reject"), (Verdict.DROP, "drop")])
def test_nowhere_to_go(source: str, verdict: Verdict, expected: str) -> None:
    web = service("web", external(VIP, (), empty=verdict), external(EXTERNAL, (), empty=verdict))
    for address in ("198.51.100.7", "203.0.113.9"):
        assert follow(web, source=source, to=address, port=80) == stopped(expected)


@pytest.mark.parametrize("local", [False, True])
def test_only_the_given_sources_reach_a_load_balancer(local: bool) -> None:
    """G1: other sources are dropped, also pods and the node itself."""
    made = local_policy(VIP, targets(*ALL), targets(*LOCAL), RANGES) if local else external(VIP, targets(*ALL), RANGES)
    web = service("web", made, node_port(30080, targets(*ALL)), cluster_ip("172.30.0.1", targets(*ALL)))
    assert follow(web, source=OUTSIDE, to="198.51.100.7", port=80) == reaches(
        *(LOCAL if local else ALL), masqueraded=not local
    )
    assert follow(web, source=POD, to="198.51.100.7", port=80) == reaches(*ALL, masqueraded=not local)
    assert follow(web, source=OTHER_POD, to="198.51.100.7", port=80) == reaches(
        *(LOCAL if local else ALL), masqueraded=not local
    )
    for source in (BLOCKED, HOST, "198.51.100.7"):
        assert follow(web, source=source, to="198.51.100.7", port=80) == stopped("drop")
    assert follow(web, source=BLOCKED, to=HOST, port=30080) == reaches(*ALL, masqueraded=True)  # B9
    assert follow(web, source=BLOCKED, to="172.30.0.1", port=80) == reaches(*ALL, masqueraded=True)


def test_without_endpoints_other_sources_are_still_dropped() -> None:
    """F7."""
    web = service("web", external(VIP, (), RANGES))
    assert follow(web, source=OUTSIDE, to="198.51.100.7", port=80) == stopped("reject")
    assert follow(web, source=BLOCKED, to="198.51.100.7", port=80) == stopped("drop")


def test_sources_of_ipv6() -> None:
    vip = Frontend(FrontendKind.LOAD_BALANCER, 6, packed("2001:db8:c::7"), 6, 80)
    ranges = ("2001:db8:f::/121", "2001:db8:f::80/128", "ff00::/8", "ffff::/16")
    web = service("web", external(vip, targets(*ALL, family=6), ranges))
    for source, passes in (("2001:db8:f::7f", True), ("2001:db8:f::80", True), ("2001:db8:f::81", False)):
        found = follow(web, source=source, to="2001:db8:c::7", port=80)
        assert found == (reaches(*ALL, masqueraded=True, family=6) if passes else stopped("drop"))
    assert follow(web, source="ffff::1", to="2001:db8:c::7", port=80).ends
