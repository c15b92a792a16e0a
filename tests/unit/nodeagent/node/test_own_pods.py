"""C1, I5: which pods are this node's own, where a network plugin does not keep to the Node's pod CIDRs."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from deltaplane.digest import object_hash
from deltaplane.model import Endpoint, EndpointSlice, Node, Op, Service, ServiceType, Upsert
from deltaplane.patch import difference
from nodeagent.node.node_info import NodeInfo
from nodeagent.node.own_pods import OwnPods
from nodeagent.stream.mirror import Mirror

CLUSTER = ("192.168.0.0/16", "fd00:10:244::/56")
SAID = ("192.168.1.0/24", "fd00:10:244:1::/64")


def packed(text: str) -> bytes:
    return ip_address(text).packed


def slice_of(*addresses: str, node: str = "n1") -> EndpointSlice:
    family = 6 if ":" in addresses[0] else 4
    ends = tuple(Endpoint(ip_address(text).packed, node=node) for text in addresses)
    return EndpointSlice("shop", "web-1", "web", family, (), ends)


@pytest.fixture
def pods() -> OwnPods:
    return OwnPods("n1", CLUSTER)


def test_an_endpoint_here_that_is_a_pod_outside_of_the_nodes_cidrs_shows_that_they_are_wrong(
    pods: OwnPods, caplog: pytest.LogCaptureFixture
) -> None:
    assert pods.cidrs(SAID) == SAID
    assert pods.look(SAID, [slice_of("192.168.1.9", "192.168.77.9")])
    assert pods.cidrs(SAID) == (SAID[1], CLUSTER[0])  # of the other family nothing is known to be wrong
    assert not pods.look(SAID, [slice_of("192.168.77.10")])  # nothing new
    assert len([each for each in caplog.messages if "do not hold its pods" in each]) == 1


@pytest.mark.parametrize(
    "seen",
    [
        slice_of("192.168.1.9"),  # where it should be
        slice_of("192.168.77.9", node="n2"),  # another node's
        slice_of("10.0.0.7"),  # no pod: the node's own address, or somebody else's
        slice_of("fd00:10:244:1::9"),
    ],
)
def test_nothing_else_shows_it(pods: OwnPods, seen: EndpointSlice) -> None:
    assert not pods.look(SAID, [seen])
    assert pods.cidrs(SAID) == SAID


def test_cidrs_that_change_are_believed_again(pods: OwnPods) -> None:
    pods.look(SAID, [slice_of("192.168.77.9")])
    other = ("192.168.77.0/24", SAID[1])

    assert pods.cidrs(other) == other


class Counted(OwnPods):
    """Counts the endpoints that it is shown."""

    def __init__(self) -> None:
        super().__init__("n1", CLUSTER)
        self.shown = 0

    def look(self, said: tuple[str, ...], slices: Iterable[EndpointSlice]) -> bool:
        found = list(slices)
        self.shown += sum(len(one.endpoints) for one in found)
        return super().look(said, found)


def large(number: int, node: str = "n1") -> EndpointSlice:
    ends = tuple(Endpoint(packed(f"192.168.1.{n}"), node=node) for n in range(100))
    return EndpointSlice("shop", f"web-{number}", "web", 4, (), ends)


def test_a_change_of_a_service_with_10000_endpoints_costs_those_that_are_new() -> None:
    mirror, info, counted = Mirror(), NodeInfo("n1", cluster_cidrs=CLUSTER), Counted()
    info._own_pods = counted

    def heard(*ops: Op) -> bool:
        counted.shown = 0
        return info.heard(mirror, mirror.commit(mirror.prepare(ops))).elsewhere

    service = Service("shop", "web", ServiceType.CLUSTER_IP, (packed("10.96.0.9"),), ())
    assert not heard(Upsert(Node("n1", "u1", (), "", SAID)), Upsert(service), *(Upsert(large(n)) for n in range(100)))
    assert counted.shown == 10_000
    other = replace(large(7), endpoints=(*large(7).endpoints, Endpoint(packed("192.168.77.9"), node="n1")))
    change = difference(large(7), object_hash(large(7)), other)
    assert change is not None
    assert not heard(Upsert(replace(service, session_affinity_seconds=7)))
    assert counted.shown == 0
    assert heard(change)
    assert counted.shown == 1
    assert not heard(Upsert(Node("n1", "u1", (), "", ("192.168.0.0/16",))))
    assert counted.shown == 10_001  # of other CIDRs all endpoints may tell something


def test_without_cluster_cidr_nothing_is_looked_at() -> None:
    def slices() -> list[EndpointSlice]:
        raise AssertionError("looked at")

    assert not OwnPods("n1").look(SAID, (one for make in [slices] for one in make()))


def test_a_cluster_cidr_of_every_address_tells_nothing() -> None:
    pods = OwnPods("n1", ("0.0.0.0/0",))

    assert not pods.look(SAID, [slice_of("192.168.77.9")])
