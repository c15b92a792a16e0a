"""The mirror takes a change whole or not at all, and says what it touched."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from deltaplane.digest import StateDigest, object_hash
from deltaplane.model import Object, ObjectKey, Op, Patch, Remove, ServiceCidr, Unsupported, Upsert
from deltaplane.patch import difference
from nodeagent.stream.mirror import Mirror, RejectedError, Touched
from tests.sessions import objects


def take(mirror: Mirror, *ops: Op) -> Touched:
    return mirror.commit(mirror.prepare(ops))


def by_key(*items: Object) -> dict[ObjectKey, Object]:
    return {item.key: item for item in items}


def patch(ends: dict[int, int], after: dict[int, int]) -> Patch:
    old = objects.slice_of(1, ends)
    made = difference(old, object_hash(old), objects.slice_of(1, after))
    assert made is not None
    return made


BASE = {1: 3, 2: 3, 3: 3, 4: 3}


def test_a_slice_touches_its_service() -> None:
    mirror = Mirror()
    assert take(mirror, Upsert(objects.slice_of(1, BASE))).services == {("ns", "svc-1")}
    assert mirror.slices_of("ns", "svc-1") == (objects.slice_of(1, BASE),)


def test_a_slice_that_changes_owner_touches_both() -> None:
    mirror = Mirror()
    take(mirror, Upsert(objects.slice_of(1, BASE)))
    touched = take(mirror, Upsert(objects.slice_of(1, BASE, owner=2)))
    assert touched.services == {("ns", "svc-1"), ("ns", "svc-2")}
    assert mirror.slices_of("ns", "svc-1") == ()


def came(touched: Touched) -> list[tuple[str, int]]:
    return [(one.name, len(one.endpoints)) for one in touched.came]


def test_of_a_patched_slice_the_endpoints_came_that_are_new_or_other_and_of_another_slice_all() -> None:
    mirror = Mirror()
    name = objects.slice_of(1, BASE).name
    assert came(take(mirror, Upsert(objects.slice_of(1, BASE)))) == [(name, 4)]
    before = set(mirror.slices_of("ns", "svc-1")[0].endpoints)
    touched = take(mirror, patch(BASE, {**BASE, 2: 1, 5: 3}))
    assert came(touched) == [(name, 2)]
    assert set(touched.came[0].endpoints) == set(mirror.slices_of("ns", "svc-1")[0].endpoints) - before
    assert came(take(mirror, patch({**BASE, 2: 1, 5: 3}, {1: 3, 3: 3, 4: 3, 5: 3}))) == []  # one went
    assert came(take(mirror, Remove(objects.slice_of(1, BASE).key))) == []


def test_of_an_invalid_slice_nothing_came_and_all_of_it_when_it_is_valid_again() -> None:
    mirror = Mirror()
    take(mirror, Upsert(objects.slice_of(1, BASE)))
    wrong = replace(objects.slice_of(1, BASE), service="no name")
    assert came(take(mirror, Upsert(wrong))) == []
    assert mirror.invalid
    assert came(take(mirror, Upsert(objects.slice_of(1, {**BASE, 5: 3})))) == [(wrong.name, 5)]
    assert not mirror.invalid


def test_a_node_touches_itself() -> None:
    mirror = Mirror()
    assert take(mirror, Upsert(objects.node(1))) == Touched(nodes=frozenset({"node-1"}))
    assert take(mirror, Remove(objects.node(1).key)) == Touched(nodes=frozenset({"node-1"}))
    assert not mirror.nodes


def test_the_ranges_of_all_service_cidrs_once_each_f6() -> None:
    mirror = Mirror()
    first, second = ServiceCidr("kubernetes", ("10.96.0.0/12", "fd00:96::/112")), ServiceCidr("b", ("10.112.0.0/16",))
    changed, same = Touched(service_cidrs=True), Touched()
    assert take(mirror, Upsert(first)) == changed
    assert take(mirror, Upsert(second)) == changed
    assert mirror.service_cidrs == ("10.112.0.0/16", "10.96.0.0/12", "fd00:96::/112")
    assert take(mirror, Upsert(ServiceCidr("again", first.cidrs))) == same
    assert take(mirror, Remove(first.key)) == same
    assert mirror.commit(mirror.prepare_replace(by_key(second))) == changed
    assert mirror.service_cidrs == second.cidrs


def test_a_patch_changes_what_it_names() -> None:
    mirror = Mirror()
    take(mirror, Upsert(objects.slice_of(1, BASE)))
    assert take(mirror, patch(BASE, {1: 3, 2: 1, 4: 3})).services == {("ns", "svc-1")}
    assert mirror.slices_of("ns", "svc-1") == (objects.slice_of(1, {1: 3, 2: 1, 4: 3}),)
    assert mirror.hash_of(objects.slice_key(1)) == object_hash(objects.slice_of(1, {1: 3, 2: 1, 4: 3}))


@pytest.mark.parametrize("ends", [{1: 3, 2: 3, 3: 0}, None], ids=["another base", "no base"])
def test_a_patch_of_another_base_is_refused_and_nothing_is_taken_s13(ends: dict[int, int] | None) -> None:
    mirror = Mirror()
    if ends is not None:
        take(mirror, Upsert(objects.slice_of(1, ends)))
    before = mirror.digest.value
    with pytest.raises(RejectedError, match="EndpointSlice ns/svc-1-abc"):
        mirror.prepare([Upsert(objects.service(1)), patch(BASE, {1: 3, 2: 1, 4: 3})])
    assert mirror.digest.value == before
    assert not mirror.services


def test_a_patch_that_leads_elsewhere_is_refused_s13() -> None:
    mirror = Mirror()
    take(mirror, Upsert(objects.slice_of(1, BASE)))
    right = patch(BASE, {1: 3, 2: 1, 4: 3})
    with pytest.raises(RejectedError, match="instead of"):
        mirror.prepare([Patch(right.key, right.base_hash, right.upserts, right.removes, 7)])


def test_a_plan_knows_the_digest_before_anything_is_taken_s5() -> None:
    mirror, digest = Mirror(), StateDigest()
    plan = mirror.prepare([Upsert(objects.service(1)), Upsert(objects.slice_of(1, BASE))])
    for object_ in (objects.service(1), objects.slice_of(1, BASE)):
        digest.replace(object_.key, None, object_hash(object_))
    assert plan.digest == digest.value
    assert mirror.digest.value == 0
    mirror.commit(plan)
    assert mirror.digest.buckets == digest.buckets


def test_a_complete_list_touches_only_what_differs_s6() -> None:
    mirror = Mirror()
    first = by_key(*(objects.service(n) for n in range(4)), objects.slice_of(1, BASE), objects.node(1))
    mirror.commit(mirror.prepare_replace(first))
    second = by_key(objects.service(0), objects.service(1, 1), objects.service(2), objects.slice_of(1, BASE))
    plan = mirror.prepare_replace(second)
    assert plan.services_removed == 1
    touched = mirror.commit(plan)
    assert touched.services == {("ns", "svc-1"), ("ns", "svc-3")}
    assert touched.nodes == {"node-1"}
    assert touched.changed == (2, 0)
    assert {item.key: item for item in mirror.objects()} == second


def test_unsupported_ops_are_counted_and_the_others_taken_s14() -> None:
    mirror = Mirror()
    plan = mirror.prepare([Unsupported("later"), Upsert(objects.service(1))])
    assert plan.unsupported == 1
    assert mirror.commit(plan).services == {("ns", "svc-1")}


def test_removing_what_is_not_there_touches_nothing() -> None:
    assert take(Mirror(), Remove(objects.service_key(1))) == Touched()
