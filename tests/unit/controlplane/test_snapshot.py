"""A snapshot holds everything once, in the order a node needs it, and is built once for all who need it."""

from __future__ import annotations

import random

import pytest

from controlplane.facts import Fact
from deltaplane.model import EndpointSlice, Kind, Node, Object, Service, ServiceCidr
from deltaplane.snapshot import CHUNK_BYTES, State, build, in_priority
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.session import Session
from tests.sessions import objects
from tests.sessions.link import Replica


def test_nodes_come_first_then_the_api_and_dns_each_with_its_slices_s8() -> None:
    def service(namespace: str, name: str) -> Service:
        return Service(namespace, name, 1, (b"\x0a\0\0\1",), ())

    def slice_(namespace: str, owner: str) -> EndpointSlice:
        return EndpointSlice(namespace, f"{owner}-x", owner, 4, (), ())

    ordered: list[Object] = [
        Node("n"),
        ServiceCidr("c", ()),
        service("default", "kubernetes"),
        slice_("default", "kubernetes"),
        service("kube-system", "kube-dns"),
        slice_("kube-system", "kube-dns"),
        service("a", "x"),
        slice_("a", "x"),
        slice_("a", "y"),
        service("a", "z"),
    ]
    shuffled = list(ordered)
    random.shuffle(shuffled)
    assert in_priority(shuffled) == ordered


@pytest.mark.parametrize("encoding", [pb.ENCODING_ZLIB, pb.ENCODING_IDENTITY])
def test_it_arrives_in_chunks_and_whole(encoding: pb.Encoding.ValueType) -> None:
    replica = Replica(objects.slice_of(n, dict.fromkeys(range(1, 200), 3)) for n in range(120))
    state = State(b"e", 7, tuple(replica.store.objects()), replica.store.digest.value, {Kind.SERVICE: "5"})
    messages = build(state, encoding).messages
    begin = pb.WatchResponse.FromString(messages[0]).snapshot_begin
    assert begin.chunks == len(messages) - 2 > 1
    assert begin.bytes == sum(map(len, messages[1:-1]))
    assert max(map(len, messages)) < CHUNK_BYTES * 1.1
    session = Session(pb.Hello(), Mirror())
    assert session.restore(messages, 0.0) is not None
    assert session.mirror.digest.value == replica.store.digest.value
    assert (session.rev, session.cursor.versions) == (7, {int(Kind.SERVICE): "5"})


def test_an_empty_state_is_a_snapshot_too() -> None:
    messages = build(State(b"e", 1, (), 0, {})).messages
    assert Session(pb.Hello(), Mirror()).restore(messages, 0.0) is not None


def test_it_is_kept_while_the_log_leads_on_from_it() -> None:
    replica = Replica([objects.service(1)])
    first = replica.snapshots.take(pb.ENCODING_ZLIB)
    replica.put(Fact(objects.service_key(2), objects.service(2)))
    assert replica.snapshots.take(pb.ENCODING_ZLIB) is first
    assert (second := replica.snapshots.take(pb.ENCODING_ZLIB, at_least=2)) is not None
    assert second.rev == 2
    replica.log.expire(1e9)
    replica.put(Fact(objects.service_key(3), objects.service(3)))
    assert replica.snapshots.kept(pb.ENCODING_ZLIB) is not None
    replica.log.expire(1e9)
    assert replica.snapshots.kept(pb.ENCODING_ZLIB) is None
