"""How long endpoint changes take: from the annotation's time, through a delta's causes, to the commit (5.3)."""

from __future__ import annotations

import time

from deltaplane.codec import encode_op
from deltaplane.model import (
    Conditions,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    Kind,
    ObjectKey,
    Protocol,
    Upsert,
)
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.metrics.factory import FAMILIES
from nodeagent.metrics.programming_latency import MOST_WAITING, PROGRAMMING, Programming, Trigger, triggers
from nodeagent.metrics.registry import Metrics
from nodeagent.stream.mirror import Mirror

SECOND = 1_000_000_000
WEB = ObjectKey(Kind.SERVICE, "shop", "web")
COUNT = "kubeproxy_network_programming_duration_seconds_count"
SUM = "kubeproxy_network_programming_duration_seconds_sum"


def slice_of(family: Family) -> EndpointSlice:
    address = b"\x0a\0\0\1" if family is Family.IPV4 else b"\xfd" + bytes(15)
    endpoint = Endpoint(address, int(Conditions.READY | Conditions.SERVING))
    return EndpointSlice("shop", f"web-{family}", "web", family, (EndpointPort("", Protocol.TCP, 80),), (endpoint,))


def mirror_of(*slices: EndpointSlice) -> Mirror:
    mirror = Mirror()
    mirror.commit(mirror.prepare([Upsert(slice_) for slice_ in slices]))
    return mirror


def cause(name: str, trigger: int, kind: Kind = Kind.ENDPOINT_SLICE) -> pb.Cause:
    key = objects_pb2.ObjectKey(kind=objects_pb2.Kind.ValueType(int(kind)), namespace="shop", name=name)
    return pb.Cause(object=key, trigger_unix_nano=trigger)


def count(programming: Programming, family: str) -> float:
    (metric,) = programming.collect()
    return next(one.value for one in metric.samples if one.name == COUNT and one.labels["ip_family"] == family)


def test_the_family_and_the_service_come_from_the_slice() -> None:
    mirror = mirror_of(slice_of(Family.IPV4), slice_of(Family.IPV6))

    found = triggers([cause("web-4", 7), cause("web-6", 9)], mirror)

    assert found == [Trigger(4, WEB, 7), Trigger(6, WEB, 9)]


def test_no_time_a_slice_that_is_gone_and_a_service_count_nothing() -> None:
    mirror = mirror_of(slice_of(Family.IPV4))

    assert triggers([cause("web-4", 0), cause("web-9", 7), cause("web-4", 7, Kind.SERVICE)], mirror) == []


def test_what_changed_before_this_process_counts_nothing() -> None:
    programming = Programming(PROGRAMMING, FAMILIES, since=10 * SECOND)

    programming.want([Trigger(4, WEB, 10 * SECOND), Trigger(4, WEB, 11 * SECOND)])
    programming.programmed((), 12 * SECOND)

    assert count(programming, "IPv4") == 1


def test_a_service_the_kernel_refused_waits_and_its_whole_delay_counts() -> None:
    metrics = Metrics()
    begin = time.time_ns() + 1
    metrics.received(0, 1, [Trigger(6, WEB, begin)])

    metrics.count_commit(Commit(failed=(Failed(WEB, "KERNEL_REJECTED", "no"),)), 0.001)
    assert metrics.registry.get_sample_value(COUNT, {"ip_family": "IPv6"}) == 0

    metrics.count_commit(Commit(), 0.001)
    metrics.count_commit(Commit(), 0.001)
    assert metrics.registry.get_sample_value(COUNT, {"ip_family": "IPv6"}) == 1
    assert metrics.registry.get_sample_value(COUNT, {"ip_family": "IPv4"}) == 0


def test_a_clock_behind_the_api_servers_never_lowers_the_sum() -> None:
    programming = Programming(PROGRAMMING, FAMILIES, since=0)
    programming.want([Trigger(4, WEB, 20 * SECOND)])
    programming.programmed((), 15 * SECOND)

    (metric,) = programming.collect()
    assert next(one.value for one in metric.samples if one.name == SUM) == 0


def test_what_waits_is_bounded() -> None:
    programming = Programming(PROGRAMMING, FAMILIES, since=0)
    programming.want(Trigger(4, WEB, 1 + number) for number in range(2 * MOST_WAITING))

    assert len(programming.waiting) == MOST_WAITING


def test_a_delta_carries_one_time_per_change_and_few_bytes() -> None:
    """The time is part of the cause that is there anyway: ten bytes of the delta."""
    one, none = pb.Delta(causes=[cause("web-4", 1_700_000_000 * SECOND)]), pb.Delta(causes=[cause("web-4", 0)])
    for delta in (one, none):
        encode_op(Upsert(slice_of(Family.IPV4)), delta.ops)

    assert one.ByteSize() - none.ByteSize() == 10
