"""What the agent makes of the cluster's Nodes: their addresses are never dropped, and odd set-ups are told of once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from controlplane.facts import Fact
from deltaplane.forwarding import own_pod_cidrs
from deltaplane.frontends import slot
from deltaplane.model import Endpoint, EndpointPort, EndpointSlice, Node, Object, ServiceCidr, Upsert
from nodeagent.dataplane.set_members import OWN_PODS, SERVICE_CIDRS
from nodeagent.linux.nft.ranges import paired
from nodeagent.node.cautions import like
from nodeagent.node.node_info import NodeInfo
from nodeagent.node.surroundings import Moved, Surroundings
from nodeagent.stream.mirror import Mirror, Touched
from tests.fakes.nftables.memory import MemoryKernel
from tests.soak.objects import HERE
from tests.soak.world import World, ticking


def packed(text: str) -> bytes:
    return ip_address(text).packed


OWN = Node(HERE, "u1", (packed("192.0.2.1"),))
OTHER = Node("other", "u2", (packed("10.100.0.7"),), "", ("10.97.3.0/24",))
APART = Node("other", "u2", (packed("192.0.2.7"),), "", ("10.244.3.0/24",))
RANGE = ServiceCidr("kubernetes", ("10.96.0.0/12",))


@pytest.fixture
def world() -> Iterator[World]:
    kernel = MemoryKernel()
    made = World(lambda: kernel, kernel.tables.clear)
    with ticking(made):
        yield made
    made.agent.close()


def put(world: World, *objects: Object) -> None:
    world.put(*(Fact(item.key, item) for item in objects))
    world.settle()


def dropped(world: World, address: str) -> bool:
    """Whether a new connection there is dropped as an unallocated ClusterIP."""
    key = packed(address)
    held = world.dataplane.dump()[4][SERVICE_CIDRS]
    ranges = paired((a for a, end in held.items() if not end), (a for a, end in held.items() if end))
    return any(first <= key <= last for first, last in ranges)


def warnings(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and word in r.getMessage()]


def test_addresses_of_nodes_and_pods_in_a_service_cidr_are_let_through_f6(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put(world, OWN, OTHER, RANGE)
    assert dropped(world, "10.96.0.9")
    assert dropped(world, "10.100.0.8")
    assert not dropped(world, "10.100.0.7")
    assert not dropped(world, "10.97.3.200")
    (told,) = warnings(caplog, "ServiceCIDR")
    assert "10.100.0.7/32 (Node other)" in told
    put(world, APART)
    assert dropped(world, "10.100.0.7")
    assert dropped(world, "10.97.3.200")
    assert [r for r in caplog.records if "any more" in r.getMessage()]
    assert world.differences() == []


def test_a_node_that_joins_within_the_service_cidr_costs_what_it_adds(world: World) -> None:
    put(world, OWN, APART, RANGE)
    before = world.dataplane.dump()[4][SERVICE_CIDRS]
    put(world, OTHER)
    assert len(world.dataplane.dump()[4][SERVICE_CIDRS]) == len(before) + 2 * 2  # a hole splits a range


def test_a_service_cidr_never_cuts_a_node_off_from_its_control_plane(world: World) -> None:
    """It could not be told that the ServiceCIDR is gone: not by its replicas, nor they by the API server."""
    ports, at = (EndpointPort("https", 6, 6443),), (Endpoint(packed("198.51.100.2")),)
    api = EndpointSlice("default", "kubernetes", "kubernetes", 4, ports, at)
    everything = ServiceCidr("odd", ("0.0.0.0/0",))
    way = [slot(4, 6, 50051, packed("198.51.100.3")), slot(4, 6, 50051)]
    world.agent.reserve("the way", way)
    put(world, OWN, APART, everything, api)
    let_through = ("198.51.100.2", "198.51.100.3", "127.0.0.1", "169.254.20.10", "224.0.0.1", "255.255.255.255")
    assert [address for address in let_through if dropped(world, address)] == []
    assert dropped(world, "198.51.100.4")

    world.agent.reserve("the way", [slot(4, 6, 50051, packed("198.51.100.4"))])
    put(world, replace(api, endpoints=(Endpoint(packed("198.51.100.5")),)))

    assert [dropped(world, f"198.51.100.{number}") for number in (2, 3, 4, 5)] == [True, True, False, False]


def test_a_range_of_pods_that_holds_the_service_cidr_lets_nothing_through() -> None:
    found = Surroundings("a", ("10.0.0.0/8",))
    assert not found.take({}, None, ("10.96.0.0/12",)).inside
    assert found.take({"b": OTHER}, ("b",), None).inside
    assert found.inside == ("10.100.0.7/32", "10.97.3.0/24")


def test_pods_of_the_cluster_cidr_in_a_service_cidr_are_let_through() -> None:
    found = Surroundings("a", ("10.97.0.0/16", "fd00::/64", "nonsense"))
    assert found.take({}, None, ("10.96.0.0/12", "nonsense")).inside
    assert found.inside == ("10.97.0.0/16",)
    assert found.examples() == ["10.97.0.0/16"]


def test_other_nodes_addresses_come_and_go_with_the_last_node_that_has_them() -> None:
    found = Surroundings("a")
    one, two, three = (bytes((192, 0, 2, number)) for number in (1, 2, 3))
    nodes = {"a": Node("a", "", (one,)), "b": Node("b", "", (two,)), "c": Node("c", "", (two, three))}
    assert found.take(nodes, None, ()) == Moved((two, three))
    assert found.take({}, ("b",), None) == Moved()
    assert found.take({"c": Node("c", "", (one,))}, ("c",), None) == Moved((one,), (two, three))
    assert found.take({"c": Node("c", "", (one,))}, ("c",), None) == Moved()


def test_a_name_that_no_node_has_is_told_once_and_again_when_it_heals(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put(world, RANGE)
    assert not warnings(caplog, "no Node")  # there may be Nodes yet
    put(world, Node("node-b"), Node(f"{HERE}.example"))
    put(world, Node("node-c"))
    (told,) = warnings(caplog, "no Node")
    assert HERE in told
    assert f"{HERE}.example" in told
    assert "--hostname-override" in told
    put(world, OWN)
    put(world, Node("node-d"))
    assert len([r for r in caplog.records if "is known now" in r.getMessage()]) == 1
    world.put(Fact(OWN.key, None))
    world.settle()
    assert len(warnings(caplog, "no Node")) == 2


@pytest.mark.parametrize(
    ("name", "nodes", "first"),
    [
        ("node-1.example", ("node-1", "node-2", "node-10"), "node-1"),
        ("node-1", ("a", "node-1.example.org"), "node-1.example.org"),
        ("Node-1", ("a", "node-1"), "node-1"),
        ("wroker-7", ("worker-7", "worker-8", "master"), "worker-7"),
        ("x", ("b", "a"), "a"),
    ],
)
def test_the_likeliest_name_comes_first(name: str, nodes: tuple[str, ...], first: str) -> None:
    assert like(name, nodes)[0] == first


def own_pods(world: World, family: int = 4) -> set[bytes]:
    """The first addresses of the ranges where this node's pods are, as the kernel has them."""
    return {key for key, end in world.dataplane.dump()[family][OWN_PODS].items() if not end}


def test_this_nodes_pod_cidrs_are_followed_and_stay_when_the_node_goes(world: World) -> None:
    """L3, C1: also before they are known, and where another Node's change."""
    put(world, OWN, APART, RANGE)
    assert own_pods(world) == set()
    put(world, replace(OWN, pod_cidrs=("10.244.1.0/24", "fd00:10:244:1::/64")))
    assert (own_pods(world), own_pods(world, 6)) == ({packed("10.244.1.0")}, {packed("fd00:10:244:1::")})
    put(world, replace(APART, pod_cidrs=("10.244.9.0/24",)))
    put(world, OWN)
    assert own_pods(world) == {packed("10.244.1.0")}
    put(world, replace(OWN, pod_cidrs=("10.244.2.0/24",)))
    assert (own_pods(world), own_pods(world, 6)) == ({packed("10.244.2.0")}, set())
    assert world.differences() == []


def test_where_the_node_has_no_pod_cidrs_of_a_family_every_pod_is_its_own() -> None:
    """C1: as kube-proxy takes it. A CIDR of every address tells nothing."""
    cluster, of_ipv4, of_ipv6 = ("10.244.0.0/16", "fd00:10:244::/56"), "10.244.1.0/24", "fd00:10:244:1::/64"
    assert own_pod_cidrs((), cluster) == cluster
    assert own_pod_cidrs((of_ipv4,), cluster) == (of_ipv4, cluster[1])
    assert own_pod_cidrs((of_ipv4, of_ipv6), cluster) == (of_ipv4, of_ipv6)
    assert own_pod_cidrs((), ("0.0.0.0/0", "::/0")) == own_pod_cidrs((), ()) == ()


def test_an_agent_takes_every_pod_for_its_nodes_until_the_node_says_its_pod_cidrs() -> None:
    mirror = Mirror()
    info = NodeInfo(HERE, cluster_cidrs=("10.244.0.0/16",))
    mirror.nodes[HERE] = OWN
    assert pods_of(info, mirror) == ("10.244.0.0/16",)
    mirror.nodes[HERE] = replace(OWN, pod_cidrs=("10.244.1.0/24",))
    assert pods_of(info, mirror) == ("10.244.1.0/24",)
    mirror.nodes[HERE] = OWN
    assert pods_of(info, mirror) == ("10.244.1.0/24",)
    assert info.pod_cidrs(mirror) == ("10.244.1.0/24",)


def pods_of(info: NodeInfo, mirror: Mirror) -> tuple[str, ...]:
    """Where this node's pods are, as a dataplane is told."""
    forwarding = info.forwarding(mirror)
    assert forwarding is not None
    return forwarding.pod_cidrs


def test_an_endpoint_outside_of_the_nodes_cidrs_makes_every_pod_this_nodes() -> None:
    mirror, ends = Mirror(), (Endpoint(ip_address("10.244.77.9").packed, node=HERE),)
    info = NodeInfo(HERE, cluster_cidrs=("10.244.0.0/16",))
    put_in(mirror, replace(OWN, pod_cidrs=("10.244.1.0/24",)))
    assert not info.heard(mirror).elsewhere

    touched = put_in(mirror, EndpointSlice("shop", "web-1", "web", 4, (), ends))

    assert info.heard(mirror, touched).elsewhere
    assert pods_of(info, mirror) == ("10.244.0.0/16",)


def put_in(mirror: Mirror, *objects: Object) -> Touched:
    return mirror.commit(mirror.prepare([Upsert(each) for each in objects]))
