"""Hashes see every field; digests see every object, at the cost of what changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from deltaplane.digest import StateDigest, endpoint_hash, header_hash, object_hash
from deltaplane.model import (
    Conditions,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Kind,
    LoadBalancerIngress,
    Node,
    Object,
    ObjectKey,
    Service,
    ServiceCidr,
    ServicePort,
    ServiceType,
)
from deltaplane.patch import apply_patch, difference, join

ENDPOINT = Endpoint(b"\x0a\0\0\1", 3, "node", "zone", ("zone",), ("node",))
SAMPLES: list[Object] = [
    Service(
        "ns", "s", 1, (b"1234",), (ServicePort("http", 6, 80, 30080),), (b"5678",), (LoadBalancerIngress(b"9abc"),),
        ("10.0.0.0/8",), 1, 1, 10, 30000,
    ),
    EndpointSlice("ns", "s", "svc", 4, (EndpointPort("http", 6, 80),), (ENDPOINT,)),
    Node("n", "u", (b"1234",), "z", ("10.0.0.0/24",)),
    ServiceCidr("c", ("10.0.0.0/8",)),
]  # fmt: skip

# A change of these is a change of the wire: agents and replicas of two releases would disagree on every state.
GOLDEN = ["62c7668654d70afc", "5d850790ebc9366c", "35503279a1a3832f", "f4c03b8f42aca326"]


def changed(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "x"
        case bytes():
            return bytes((value[0] ^ 1, *value[1:]))
        case tuple():
            return value[:-1]
        case _:
            raise AssertionError(f"a field of type {type(value)} needs a way to change it")


@pytest.mark.parametrize(
    ("object_", "field"),
    [(object_, field.name) for object_ in SAMPLES for field in fields(object_)],
    ids=lambda item: item if isinstance(item, str) else type(item).__name__,
)
def test_every_field_is_in_the_hash_s4(object_: Object, field: str) -> None:
    other = replace(object_, **{field: changed(getattr(object_, field))})
    if field == "created":  # releases before it compare hashes with this one's
        assert object_hash(other) == object_hash(object_)
    else:
        assert object_hash(other) != object_hash(object_)


@pytest.mark.parametrize("value", [ENDPOINT, SAMPLES[0].ports[0], SAMPLES[0].load_balancer_ingress[0]])  # type: ignore[union-attr]
def test_every_field_of_a_part_is_in_the_hash_s4(value: Any) -> None:
    for field in fields(value):
        other = replace(value, **{field.name: changed(getattr(value, field.name))})
        assert endpoint_hash(other) != endpoint_hash(value), field.name


def test_hashes_are_the_same_on_every_replica_s4() -> None:
    assert [f"{object_hash(sample):016x}" for sample in SAMPLES] == GOLDEN


def test_enum_and_number_hash_alike_s4() -> None:
    service = SAMPLES[0]
    assert object_hash(replace(service, type=ServiceType.CLUSTER_IP)) == object_hash(service)
    flags = Conditions.READY | Conditions.SERVING
    assert endpoint_hash(replace(ENDPOINT, conditions=flags)) == endpoint_hash(ENDPOINT)


def test_a_slice_is_its_header_xor_its_endpoints() -> None:
    slice_ = SAMPLES[1]
    assert isinstance(slice_, EndpointSlice)
    assert object_hash(slice_) == header_hash(slice_) ^ endpoint_hash(ENDPOINT)


keys = st.builds(ObjectKey, st.sampled_from(Kind), st.sampled_from(["", "a"]), st.sampled_from(["x", "y", "z"]))


@given(st.lists(st.tuples(keys, st.none() | st.integers(0, 9))))
def test_the_digest_depends_on_the_state_alone_s5(steps: list[tuple[ObjectKey, int | None]]) -> None:
    digest, state = StateDigest(), dict[ObjectKey, int]()
    for key, hash_ in steps:
        digest.replace(key, state.pop(key, None), hash_)
        if hash_ is not None:
            state[key] = hash_
    fresh = StateDigest()
    for key, hash_ in state.items():
        fresh.replace(key, None, hash_)
    assert (digest.value, digest.buckets) == (fresh.value, fresh.buckets)


def test_equal_objects_under_two_keys_do_not_cancel_out_s5() -> None:
    digest = StateDigest()
    digest.replace(ObjectKey(Kind.NODE, "", "a"), None, 1)
    digest.replace(ObjectKey(Kind.NODE, "", "b"), None, 1)
    assert digest.value != 0


slices = st.dictionaries(st.integers(1, 6), st.integers(0, 3), max_size=6).map(
    lambda items: EndpointSlice(
        "ns", "s", "svc", 4, (), tuple(Endpoint(bytes((10, 0, 0, n)), c) for n, c in sorted(items.items()))
    )
)


@given(slices, slices)
def test_a_difference_applied_gives_the_new_slice_and_its_hash(old: EndpointSlice, new: EndpointSlice) -> None:
    patch = difference(old, object_hash(old), new)
    if patch is not None:
        assert apply_patch(old, patch) == (new, object_hash(new))
        assert patch.new_hash == object_hash(new)


@given(slices, slices, slices)
def test_joined_patches_do_what_both_do_s9(a: EndpointSlice, b: EndpointSlice, c: EndpointSlice) -> None:
    first, second = difference(a, object_hash(a), b), difference(b, object_hash(b), c)
    if first is not None and second is not None:
        assert apply_patch(a, join(first, second)) == (c, object_hash(c))


def test_a_changed_header_needs_the_whole_slice() -> None:
    old = SAMPLES[1]
    assert isinstance(old, EndpointSlice)
    assert difference(old, object_hash(old), replace(old, service="other")) is None
