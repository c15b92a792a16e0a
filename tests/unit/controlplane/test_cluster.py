"""The cluster's store and history move together or not at all, and a difference between them is found and mended."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from msgspec import structs

from controlplane.cluster import Cluster
from controlplane.facts import Fact
from controlplane.log import Log
from controlplane.notices import Notice
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.store import MAX_OBJECT_BYTES
from controlplane.trace import NoTracing
from deltaplane.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IpMode,
    Kind,
    LoadBalancerIngress,
    ObjectKey,
    Service,
)
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.unit.controlplane.source.recorder import Recorder

GOOD, OTHER = objects.service(1), objects.service(2)


@pytest.fixture
def reporter() -> Recorder:
    return Recorder()


@pytest.fixture
def cluster(reporter: Recorder) -> Cluster:
    made = Cluster(Log(), NoTracing(), reporter)
    made.update([Fact(GOOD.key, GOOD)])
    for kind in Kind:
        made.synced(kind)
    return made


def agree(cluster: Cluster) -> bool:
    return cluster.log.digest == cluster.store.digest.value


def large(key: ObjectKey) -> EndpointSlice:
    endpoints = tuple(Endpoint(number.to_bytes(4, "big"), 3, f"node-{number}" * 10) for number in range(10_000))
    return EndpointSlice(key.namespace, key.name, "svc-1", 4, (EndpointPort("http", 6, 80),), endpoints)


def test_what_cannot_be_sent_is_refused_by_name_and_the_rest_of_the_batch_goes_on(
    cluster: Cluster, reporter: Recorder
) -> None:
    key = objects.slice_key(1)
    head = cluster.log.head

    cluster.update([Fact(key, large(key)), Fact(OTHER.key, OTHER)])

    assert cluster.store.get(key) is None
    assert cluster.store.get(OTHER.key) == OTHER
    assert cluster.log.head == head + 1
    assert agree(cluster)
    ((where, reason),) = reporter.problems.items()
    assert str(key) in where
    assert f"{MAX_OBJECT_BYTES} is the limit" in reason


def test_it_is_told_when_the_object_can_be_sent_again(cluster: Cluster, reporter: Recorder) -> None:
    key = objects.slice_key(1)
    cluster.update([Fact(key, large(key))])

    small = objects.slice_of(1, {1: 3})
    cluster.update([Fact(key, small)])

    assert cluster.store.get(key) == small
    assert reporter.problems == {}


def test_a_slice_that_grows_too_large_by_patches_stays_as_it_was(cluster: Cluster, reporter: Recorder) -> None:
    key = objects.slice_key(1)
    grown = large(key)
    fits = EndpointSlice("ns", grown.name, "svc-1", 4, grown.ports, grown.endpoints[:6000])
    cluster.update([Fact(key, fits)])

    cluster.update([Fact(key, grown)])

    assert cluster.store.get(key) == fits
    assert list(reporter.problems)


def test_a_tracer_that_fails_costs_no_change() -> None:
    class Broken(NoTracing):
        def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
            raise RuntimeError("no collector")

        def batched(self, causes: Any, sealed_ns: int) -> None:
            raise RuntimeError("no collector")

    cluster = Cluster(Log(), Broken())
    for kind in Kind:
        cluster.synced(kind)
    head = cluster.log.head

    cluster.update([Fact(GOOD.key, GOOD)])

    assert cluster.log.head == head + 1
    assert agree(cluster)
    assert cluster.renewals == 0


def test_a_history_that_cannot_be_written_begins_anew_and_every_stream_comes_back_to_it(cluster: Cluster) -> None:
    store, log = cluster.store, cluster.log
    session = Session(store, log, Snapshots(store, log))
    session.on_message(pb.WatchRequest(hello=pb.Hello(node_name="n", protocol_min=1, protocol_max=1)), 0.0)
    while session.next_message(0.0) is not None:
        pass
    epoch = log.epoch

    with patch.object(Log, "append", side_effect=ValueError("out of range")):
        cluster.update([Fact(OTHER.key, OTHER)])

    assert log.epoch != epoch
    assert cluster.renewals == 1
    assert agree(cluster)
    assert session.next_message(1.0) is None
    assert session.closed is not None
    assert session.closed.status == "UNAVAILABLE"


def test_a_head_that_is_not_the_state_is_found_and_healed(cluster: Cluster) -> None:
    cluster.store.update([Fact(OTHER.key, OTHER)])  # without its history

    assert cluster.heal()
    assert agree(cluster)
    assert not cluster.heal()


def test_append_moves_nothing_when_it_fails(cluster: Cluster) -> None:
    log = cluster.log
    before = (log.head, log.tail, log.size, log.digest)
    changes = cluster.store.update([Fact(objects.service_key(n), objects.service(n)) for n in range(3, 6)])

    broken = patch("controlplane.log.encode", side_effect=[b"first", ValueError("the second cannot be encoded")])
    with broken, patch("controlplane.batch.MAX_OPS", 1), pytest.raises(ValueError, match="the second"):
        log.append(changes, digest=0, versions={}, now=0.0, unix_nano=0)

    assert (log.head, log.tail, log.size, log.digest) == before


def balanced(number: int, *ranges: str, mode: int = IpMode.VIP) -> Service:
    ingress = (LoadBalancerIngress(bytes((192, 0, 2, number))), LoadBalancerIngress(bytes(15) + bytes((number,)), mode))
    return structs.replace(objects.service(number), load_balancer_ingress=ingress, load_balancer_source_ranges=ranges)


@pytest.mark.parametrize(
    ("service", "told"),
    [
        (balanced(1, "10.0.0.0/8"), ["IPv6"]),
        (balanced(2, "fd00::/8"), ["IPv4"]),
        (balanced(3, "10.0.0.0/8", "fd00::/8"), []),
        (balanced(4), []),
        (balanced(5, "10.0.0.0/8", mode=IpMode.PROXY), []),
    ],
    ids=["IPv4 only", "IPv6 only", "both", "none", "the balancer's own"],
)
def test_ranges_of_one_family_are_told_to_the_services_owner_g3(service: Service, told: list[str]) -> None:
    notices: list[Notice] = []
    cluster = Cluster(Log(), NoTracing(), tell=notices.append)

    cluster.update([Fact(service.key, service)])

    assert [notice.service for notice in notices] == [(service.namespace, service.name)] * len(told)
    assert all(f"no {family} range" in notice.text for notice, family in zip(notices, told, strict=True))


def test_a_service_that_asks_for_anothers_clusterip_is_told_with_the_holders_name() -> None:
    told: list[Notice] = []
    cluster = Cluster(Log(), NoTracing(), None, told.append)
    evil = structs.replace(OTHER, namespace="aaa", external_ips=GOOD.cluster_ips)
    cluster.update([Fact(evil.key, evil)])
    for kind in Kind:
        cluster.synced(kind)
    assert told == []
    cluster.update([Fact(GOOD.key, GOOD)])
    (notice,) = told
    assert (notice.service, notice.reason) == (("aaa", OTHER.name), "AddressOfAnotherService")
    assert str(GOOD.key) in notice.text
    told.clear()
    cluster.update([Fact(GOOD.key, structs.replace(GOOD, session_affinity_seconds=5))])
    assert told == []


def test_a_fault_in_what_is_told_of_services_loses_no_change() -> None:
    def broken(_: Notice) -> None:
        raise ValueError("no room")

    cluster = Cluster(Log(), NoTracing(), None, broken)
    for kind in Kind:
        cluster.synced(kind)
    cluster.update([Fact(GOOD.key, GOOD)])
    cluster.update([Fact(OTHER.key, structs.replace(OTHER, external_ips=GOOD.cluster_ips))])
    assert agree(cluster)
    assert cluster.store.get(OTHER.key) is not None


def test_nothing_has_a_revision_before_every_kind_is_complete_s1() -> None:
    cluster = Cluster(Log(), NoTracing())
    cluster.update([Fact(GOOD.key, GOOD)])
    for kind in sorted(Kind):
        assert kind in cluster.missing
        assert (cluster.ready, cluster.whole.is_set(), cluster.log.head) == (False, False, 0)
        cluster.synced(kind)

    assert (cluster.ready, cluster.whole.is_set(), cluster.log.head) == (True, True, 1)
    assert cluster.missing == frozenset()
    assert agree(cluster)


def test_a_kind_that_is_complete_again_begins_nothing_anew(cluster: Cluster) -> None:
    cluster.update([Fact(OTHER.key, OTHER)])
    head = cluster.log.head
    cluster.synced(Kind.SERVICE)
    assert cluster.log.head == head


def test_streams_are_woken_once_for_each_change_and_only_while_they_are_there(cluster: Cluster) -> None:
    woken: list[str] = []
    with cluster.waking(lambda: woken.append("x")):
        cluster.update([Fact(OTHER.key, OTHER)])
        cluster.update([Fact(OTHER.key, OTHER)])  # nothing has changed
        assert woken == ["x"]
    cluster.update([Fact(OTHER.key, None)])
    assert woken == ["x"]


def ack_now(cluster: Cluster) -> bool:
    log = cluster.log
    return pb.WatchResponse.FromString(log.merged(log.head - 1, log.head)).delta.ack_now


def test_changes_ask_for_their_acks_at_once_while_anybody_waits_for_them(cluster: Cluster) -> None:
    asked = []
    with cluster.awaited():
        with cluster.awaited():
            cluster.update([Fact(OTHER.key, OTHER)])
            asked.append(ack_now(cluster))
        cluster.update([Fact(OTHER.key, None)])
        asked.append(ack_now(cluster))
    cluster.update([Fact(OTHER.key, OTHER)])
    asked.append(ack_now(cluster))
    assert asked == [True, True, False]


def test_a_list_that_lacks_an_object_removes_it_by_one_revision(cluster: Cluster) -> None:
    cluster.update([Fact(OTHER.key, OTHER)])
    head = cluster.log.head

    cluster.replace(Kind.SERVICE, [Fact(OTHER.key, OTHER)], "9")

    assert cluster.store.get(GOOD.key) is None
    assert cluster.log.head == head + 1
    assert agree(cluster)


def test_a_node_is_known_by_its_object(cluster: Cluster) -> None:
    node = objects.named_node("n1")
    assert not cluster.has_node("n1")
    cluster.update([Fact(node.key, node)])
    assert (cluster.has_node("n1"), cluster.has_node("n2")) == (True, False)


def test_the_cluster_is_not_known_until_it_is_identified(cluster: Cluster) -> None:
    assert cluster.cluster_id == ""
    cluster.identify("uid-1")
    assert cluster.cluster_id == "uid-1"


def test_an_object_that_stays_too_large_is_reported_once(cluster: Cluster, reporter: Recorder) -> None:
    key = objects.slice_key(1)
    first = large(key)
    second = structs.replace(first, endpoints=first.endpoints[::-1])
    cluster.update([Fact(key, first)])
    cluster.update([Fact(key, second)])
    assert len(reporter.reports) == 1


def test_a_claim_is_told_when_everything_is_known_since_one_that_counts_more_may_still_come() -> None:
    told: list[Notice] = []
    cluster = Cluster(Log(), NoTracing(), None, told.append)
    evil = structs.replace(OTHER, namespace="aaa", external_ips=GOOD.cluster_ips)
    cluster.update([Fact(GOOD.key, GOOD), Fact(evil.key, evil)])
    assert told == []
    for kind in Kind:
        cluster.synced(kind)
    assert [notice.reason for notice in told] == ["AddressOfAnotherService"]
