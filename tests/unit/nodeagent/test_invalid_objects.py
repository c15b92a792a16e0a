"""Contents that the API refuses: the object fails alone, digests agree, and what was last good stays."""

from __future__ import annotations

import logging
from typing import Any
from zlib import compress, crc32

import msgspec
import pytest
from msgspec.structs import replace

from controlplane.errors import InvalidObject
from controlplane.resume import problem as hello_problem
from controlplane.source.translate import TYPES, translate
from controlplane.store import newer
from deltaplane.codec import MalformedError, encode_op
from deltaplane.forwarding import ServiceForwarding
from deltaplane.logs import event
from deltaplane.model import Kind, Object, ObjectKey, Remove, Upsert
from deltaplane.resolve import NodeView
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2
from deltaplane.validation import MAX_RANGES, problem
from nodeagent.dataplane import resolver as resolving
from nodeagent.dataplane.iptables.rules import comment
from nodeagent.dataplane.resolver import Resolver
from nodeagent.linux.text import UnsafeText, interface
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.snapshot_assembler import MAX_CHUNK_BYTES, SnapshotAssembler
from tests.sessions import objects
from tests.sessions.test_every_field import USABLE

NASTY = 'b"\nCOMMIT\n*filter\n-I INPUT -j ACCEPT\nCOMMIT\n#'
GOOD = objects.service(1)
SLICE = objects.slice_of(1, {1: 3})
NODE = objects.node(1)
BAD: list[Object] = [
    replace(GOOD, name=NASTY),
    replace(GOOD, namespace=NASTY),
    replace(GOOD, ports=(replace(GOOD.ports[0], name=NASTY),)),
    replace(GOOD, ports=(replace(GOOD.ports[0], protocol=0),)),
    replace(GOOD, type=99),
    replace(GOOD, internal_traffic_policy=99),
    replace(GOOD, cluster_ips=()),
    replace(GOOD, cluster_ips=tuple(bytes((10, 96, 0, last)) for last in range(200))),
    *(replace(GOOD, cluster_ips=(bytes(address),)) for address in ((127, 0, 0, 1), (0, 0, 0, 0), (224, 1, 1, 1))),
    replace(GOOD, load_balancer_source_ranges=("x",)),
    replace(GOOD, load_balancer_source_ranges=("10.0.0.0/8",) * (MAX_RANGES + 1)),
    replace(GOOD, session_affinity_seconds=86401),
    replace(SLICE, service=NASTY),
    replace(SLICE, endpoints=(replace(SLICE.endpoints[0], address=bytes((169, 254, 169, 254))),)),
    replace(SLICE, endpoints=(replace(SLICE.endpoints[0], node=NASTY),)),
    replace(SLICE, endpoints=(replace(SLICE.endpoints[0], zone_hints=(NASTY,)),)),
    replace(NODE, pod_cidrs=("x",)),
    replace(NODE, name=NASTY),
]


def put(mirror: Mirror, *changed: Object) -> None:
    mirror.commit(mirror.prepare([Upsert(item) for item in changed]))


@pytest.mark.parametrize("good", [GOOD, SLICE, NODE], ids=lambda item: type(item).__name__)
def test_what_the_api_permits_passes(good: Object) -> None:
    assert not problem(good)


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_one_bad_object_is_named_with_its_field_and_the_others_go_on(bad: Object) -> None:
    mirror = Mirror()
    other = objects.service(2)
    put(mirror, bad, other)
    assert list(mirror.invalid) == [bad.key]
    field, _, reason = mirror.invalid[bad.key].partition(": ")
    assert field
    assert reason
    assert mirror.services == {("ns", "svc-2"): other}
    assert mirror.get(bad.key) == bad  # so that the digest is the replica's


def test_the_last_good_version_stays_until_a_good_one_comes_or_the_object_goes() -> None:
    mirror, name = Mirror(), (GOOD.namespace, GOOD.name)
    put(mirror, GOOD)
    for _ in range(2):  # another bad version is no newer good one
        put(mirror, replace(GOOD, type=99, session_affinity_seconds=_))
        assert mirror.services[name] == GOOD
    put(mirror, replace(GOOD, type=2))
    assert not mirror.invalid
    assert mirror.services[name].type == 2
    put(mirror, replace(GOOD, type=99))
    mirror.commit(mirror.prepare([Remove(GOOD.key)]))
    assert not mirror.invalid
    assert name not in mirror.services


def test_a_bad_slice_keeps_its_last_good_endpoints_and_is_gone_when_removed() -> None:
    mirror = Mirror()
    put(mirror, GOOD, SLICE)
    put(mirror, replace(SLICE, service=NASTY))
    assert mirror.slices_of("ns", "svc-1") == (SLICE,)
    mirror.commit(mirror.prepare([Remove(SLICE.key)]))
    assert mirror.slices_of("ns", "svc-1") == ()


@pytest.mark.parametrize("kind", Kind)
def test_a_source_refuses_a_name_that_the_api_would_not_have(kind: Kind) -> None:
    metadata = {"name": NASTY, "namespace": "ns"}
    thing = msgspec.convert({**USABLE[kind], "metadata": {**USABLE[kind]["metadata"], **metadata}}, TYPES[kind])
    with pytest.raises(InvalidObject, match=r"metadata\.name"):
        translate(kind, thing)


@pytest.mark.parametrize("text", [NASTY, 'a"', "a\\", "a`", "a\0", "a\r", "é"])
def test_no_text_leaves_its_quotes_in_a_rule(text: str) -> None:
    for refuse in (comment, interface):
        with pytest.raises(UnsafeText):
            refuse(text)


def test_control_characters_of_a_peer_never_reach_the_log_raw(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        event(logging.getLogger("t"), logging.INFO, "agent", node="a\r\n\x1b[31m\u202e\x9b")
    assert caplog.messages == ['agent node="a\\r\\n\\x1b[31m\\u202e\\x9b"']


@pytest.mark.parametrize("fields", [{"node_name": "a\r\n"}, {"proxy_mode_reason": "x" * 2000}])
def test_a_hello_of_rubbish_is_refused_by_its_field(fields: dict[str, str]) -> None:
    found = hello_problem(pb.Hello(**({"node_name": "n", "protocol_min": 1, "protocol_max": 1} | fields)))  # type: ignore[arg-type]
    assert found is not None
    assert found[0] == "INVALID_ARGUMENT"
    assert f"Hello.{next(iter(fields))}" in found[1]


def test_a_version_of_thousands_of_digits_is_no_number() -> None:
    assert not newer("9" * 5000, "1")


def chunk(index: int, ops: bytes) -> pb.SnapshotChunk:
    packed = compress(ops, 9)
    return pb.SnapshotChunk(index=index, packed=packed, encoding=pb.ENCODING_ZLIB, crc32=crc32(packed))


def test_a_chunk_is_bounded_by_what_it_unpacks_to() -> None:
    assembler = SnapshotAssembler(pb.SnapshotBegin(rev=1, chunks=1), b"")
    with pytest.raises(MalformedError, match="above"):
        assembler.add(chunk(0, b"\n\0" * MAX_CHUNK_BYTES), b"")


def test_a_snapshot_holds_no_more_than_its_begin_announced() -> None:
    ops = objects_pb2.OpList()
    for number in (1, 2):
        encode_op(Upsert(objects.service(number)), ops.ops)
    begin = pb.SnapshotBegin(rev=1, chunks=1, counts=pb.Counts(services=1))
    with pytest.raises(MalformedError, match="of 1 objects has more"):
        SnapshotAssembler(begin, b"").add(chunk(0, ops.SerializeToString()), b"")
    with pytest.raises(MalformedError, match="were announced"):
        SnapshotAssembler(pb.SnapshotBegin(rev=1), b"").add(chunk(0, b""), b"")


def test_a_fault_in_one_service_is_its_own_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror()
    put(mirror, GOOD, objects.service(2))
    resolver = Resolver(mirror)

    def faulty(key: ObjectKey, *rest: Any) -> ServiceForwarding:
        if key == GOOD.key:
            raise ZeroDivisionError
        return ServiceForwarding(key)

    with monkeypatch.context() as patched:
        patched.setattr(resolving, "resolve", faulty)
        assert [found.key for found in resolver.resolve(mirror.services, NodeView("n"))] == [objects.service(2).key]
        assert [(item.key, item.code) for item in resolver.failures()] == [(GOOD.key, "INTERNAL")]
    assert len(resolver.resolve(mirror.services, NodeView("n"))) == 2
    assert not list(resolver.failures())
