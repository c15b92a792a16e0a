"""Ops keep every field on the way over the wire, and what breaks the contract is refused whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from deltaplane.codec import MalformedError, decode_op, decode_ops, encode_op
from deltaplane.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Kind,
    LoadBalancerIngress,
    Node,
    ObjectKey,
    Op,
    Patch,
    Remove,
    Service,
    ServiceCidr,
    ServicePort,
    Unsupported,
    Upsert,
)
from deltaplane.v1 import objects_pb2 as pb

names = st.text("abc-", min_size=1, max_size=6)
texts = st.text(max_size=6)
ports = st.integers(1, 65535)
v4 = st.binary(min_size=4, max_size=4).filter(any)
addresses = v4 | st.binary(min_size=16, max_size=16).filter(any)
hash_values = st.integers(0, 2**64 - 1)


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=3).map(tuple)


hints = st.lists(names, max_size=3, unique=True).map(sorted).map(tuple)
endpoints = st.lists(
    st.builds(Endpoint, v4, st.integers(0, 7), texts, texts, hints, hints), max_size=5, unique_by=lambda e: e.address
).map(lambda items: tuple(sorted(items, key=lambda e: e.address)))
objects = st.one_of(
    st.builds(
        Service,
        names, names, st.integers(1, 3), tuples(addresses),
        tuples(st.builds(ServicePort, texts, st.sampled_from([6, 17, 132]), ports, st.integers(0, 65535))),
        tuples(addresses), tuples(st.builds(LoadBalancerIngress, addresses, st.integers(1, 2))), tuples(texts),
        st.integers(1, 2), st.integers(1, 2), st.integers(0, 86400), st.integers(0, 65535),
    ),
    st.builds(
        EndpointSlice, names, names, texts, st.just(4),
        tuples(st.builds(EndpointPort, texts, st.sampled_from([6, 17]), ports)), endpoints,
    ),
    st.builds(Node, names, texts, tuples(addresses), texts, tuples(texts), st.booleans(), st.booleans()),
    st.builds(ServiceCidr, names, tuples(texts)),
)  # fmt: skip
keys = st.builds(ObjectKey, st.sampled_from(Kind), texts, names)
patches = st.builds(
    Patch, st.builds(ObjectKey, st.just(Kind.ENDPOINT_SLICE), names, names), hash_values, endpoints,
    st.just(()), hash_values,
)  # fmt: skip
ops = st.one_of(objects.map(Upsert), keys.map(Remove), patches)


def over_the_wire(op: Op) -> Op:
    packed = pb.OpList()
    encode_op(op, packed.ops)
    return decode_op(pb.OpList.FromString(packed.SerializeToString()).ops[0])


@given(ops)
def test_an_op_comes_back_as_it_went(op: Op) -> None:
    assert over_the_wire(op) == op


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (pb.Service, Service),
        (pb.ServicePort, ServicePort),
        (pb.LoadBalancerIngress, LoadBalancerIngress),
        (pb.EndpointPort, EndpointPort),
        (pb.Endpoint, Endpoint),
        (pb.Node, Node),
        (pb.ServiceCidr, ServiceCidr),
    ],
)
def test_wire_and_model_have_the_same_fields_s4(message: Any, value: Any) -> None:
    assert {field.name for field in message.DESCRIPTOR.fields} == {field.name for field in fields(value)}


def test_a_slice_has_the_same_fields_on_the_wire_but_for_its_dictionary_s4() -> None:
    wire = {field.name for field in pb.EndpointSlice.DESCRIPTOR.fields}
    assert wire - {"strings"} == {field.name for field in fields(EndpointSlice)}


def test_equal_names_are_one_object() -> None:
    endpoint = Endpoint(b"\x0a\0\0\1", 3, "node-1", "zone-a", ("zone-a",))
    decoded = [over_the_wire(Upsert(EndpointSlice("ns", f"s{n}", "s", 4, (), (endpoint,)))) for n in range(2)]
    first, second = (op.object.endpoints[0] for op in decoded)  # type: ignore[union-attr]
    assert first.node is second.node
    assert first.zone_hints is second.zone_hints


def slice_message(**changes: Any) -> pb.Op:
    message = {
        "namespace": "ns",
        "name": "s",
        "family": 4,
        "strings": ["", "node-1"],
        "endpoints": [{"address": b"\x0a\0\0\1", "node": 1}, {"address": b"\x0a\0\0\2"}],
    }
    return pb.Op(endpoint_slice=message | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    [
        slice_message(family=0),
        slice_message(name=""),
        slice_message(strings=["node-1"]),
        slice_message(ports=[{"port": 65536}]),
        slice_message(endpoints=[{"address": b"\x0a\0\0"}]),
        slice_message(endpoints=[{}]),
        slice_message(endpoints=[{"address": bytes(16)}]),
        slice_message(endpoints=[{"address": b"\x0a\0\0\1", "node": 2}]),
        slice_message(endpoints=[{"address": b"\x0a\0\0\1", "zone_hints": [7]}]),
        slice_message(endpoints=[{"address": b"\x0a\0\0\1"}, {"address": b"\x0a\0\0\1"}]),
        slice_message(endpoints=[{"address": b"\x0a\0\0\2"}, {"address": b"\x0a\0\0\1"}]),
        pb.Op(service=pb.Service(namespace="ns", name="s", cluster_ips=[b"\x0a"])),
        pb.Op(service=pb.Service(namespace="ns", name="s", ports=[pb.ServicePort(port=0)])),
        pb.Op(service=pb.Service(namespace="ns", name="s", ports=[pb.ServicePort(port=1, node_port=70000)])),
        pb.Op(endpoint_slice_patch=pb.EndpointSlicePatch(namespace="ns", name="s", removes=[b"1234", b"1234"])),
        pb.Op(node=pb.Node(name="n", addresses=[b"123"])),
        pb.Op(remove=pb.ObjectKey(kind=pb.KIND_SERVICE)),
    ],
    ids=str,
)
def test_what_breaks_the_contract_is_refused_s13(message: pb.Op) -> None:
    with pytest.raises(MalformedError):
        decode_op(message)


def test_two_ops_for_one_key_are_refused_s13() -> None:
    with pytest.raises(MalformedError, match="EndpointSlice ns/s stands twice"):
        decode_ops([slice_message(), slice_message()])


@pytest.mark.parametrize(
    "message",
    [pb.Op(), pb.Op(config_flag=pb.ConfigFlag(name="x")), pb.Op.FromString(b"\xa2\x06\x00")],
    ids=["empty", "a variant without meaning here", "a variant of a later release"],
)
def test_an_unknown_variant_is_unsupported_s14(message: pb.Op) -> None:
    assert isinstance(decode_op(message), Unsupported)
