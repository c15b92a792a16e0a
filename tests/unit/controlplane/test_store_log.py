"""Facts become changes, changes become revisions, and ranges of revisions become one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.batch import MAX_CAUSES, MAX_OPS, Batch, merge
from controlplane.facts import Fact
from controlplane.log import DIRECT, STEPS, Log, stage
from controlplane.store import Store, newer
from deltaplane.codec import decode_ops
from deltaplane.model import Kind, Object, Op, Patch, Remove, Upsert
from deltaplane.patch import apply_patch
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects

State = dict[object, Object]


def append(log: Log, store: Store, *facts: Fact, now: float = 0.0) -> None:
    log.append(
        store.update(facts), digest=store.digest.value, versions=store.versions, now=now, unix_nano=int(now * 1e9)
    )


def put(object_: Object, version: str = "") -> Fact:
    return Fact(object_.key, object_, version)


def delta(data: bytes) -> pb.Delta:
    return pb.WatchResponse.FromString(data).delta


def applied(state: State, ops: list[Op]) -> State:
    """What a careful receiver makes of the ops."""
    state = dict(state)
    for op in ops:
        if isinstance(op, Upsert):
            state[op.key] = op.object
        elif isinstance(op, Remove):
            del state[op.key]
        elif isinstance(op, Patch):
            state[op.key], hash_ = apply_patch(state[op.key], op)  # type: ignore[arg-type]
            assert hash_ == op.new_hash
    return state


# ---------------------------------------------------------------- store


def test_an_equal_fact_is_no_change() -> None:
    store = Store()
    assert len(store.update([put(objects.service(1)), put(objects.service(1), "7")])) == 1
    assert store.versions == {Kind.SERVICE: "7"}


def test_one_changed_endpoint_is_a_patch() -> None:
    store = Store()
    store.update([put(objects.slice_of(1, {1: 3, 2: 3, 3: 3}))])
    (change,) = store.update([put(objects.slice_of(1, {1: 3, 2: 1, 3: 3}))])
    assert isinstance(change.op, Patch)
    assert [endpoint.address[3] for endpoint in change.op.upserts] == [2]


def test_all_endpoints_changed_is_the_whole_slice() -> None:
    store = Store()
    store.update([put(objects.slice_of(1, {1: 3, 2: 3}))])
    (change,) = store.update([put(objects.slice_of(1, {1: 0, 2: 0}))])
    assert isinstance(change.op, Upsert)


def test_a_relist_says_only_what_differs() -> None:
    store = Store()
    store.update([put(objects.service(n)) for n in range(3)])
    changes = store.replace(Kind.SERVICE, [put(objects.service(0)), put(objects.service(1, 1))], "9")
    assert [(change.key.name, type(change.op)) for change in changes] == [("svc-1", Upsert), ("svc-2", Remove)]
    assert store.replace(Kind.NODE, [], "9") == []
    assert store.count(Kind.SERVICE) == 2


@pytest.mark.parametrize(
    ("version", "than", "expected"), [("10", "9", True), ("9", "10", False), ("5", "", True), ("", "5", False)]
)
def test_versions_compare_as_numbers(version: str, than: str, expected: bool) -> None:
    assert newer(version, than) is expected


# ---------------------------------------------------------------- log


def test_revisions_are_dense_and_say_where_they_start_s2() -> None:
    log, store = Log(b"e" * 16), Store()
    for n in range(3):
        append(log, store, put(objects.service(n)))
    spans = [(d.from_rev, d.to_rev, d.epoch) for d in (delta(batch.message) for batch in log.between(0, 3))]
    assert spans == [(0, 1, b"e" * 16), (1, 2, b"e" * 16), (2, 3, b"e" * 16)]


def test_epochs_differ_s3() -> None:
    assert Log().epoch != Log().epoch
    assert len(Log().epoch) == 16


def test_adds_name_services_first_and_removals_last_s8() -> None:
    log, store = Log(), Store()
    append(log, store, put(objects.slice_of(1, {1: 3})), put(objects.service(1)), put(objects.node(1)))
    append(log, store, Fact(objects.service_key(1), None), Fact(objects.slice_key(1), None), put(objects.service(2)))
    first, second = (decode_ops(delta(batch.message).ops) for batch in log.between(0, 2))
    assert [op.key.kind for op in first if isinstance(op, Upsert)] == [Kind.NODE, Kind.SERVICE, Kind.ENDPOINT_SLICE]
    assert [type(op) for op in second] == [Upsert, Remove, Remove]
    assert [op.key.kind for op in second if isinstance(op, Remove)] == [Kind.ENDPOINT_SLICE, Kind.SERVICE]


def test_what_came_and_went_is_not_said_s9() -> None:
    log, store = Log(), Store()
    append(log, store, put(objects.service(1)), Fact(objects.service_key(1), None))
    assert log.head == 0
    append(log, store, put(objects.service(1)))
    append(log, store, Fact(objects.service_key(1), None))
    append(log, store, put(objects.service(2)))
    assert [op.key.name for op in decode_ops(delta(log.merged(0, 3)).ops) if isinstance(op, Upsert)] == ["svc-2"]
    # Whoever has seen it come must be told that it went.
    assert [op.key.name for op in decode_ops(delta(log.merged(1, 3)).ops) if isinstance(op, Remove)] == ["svc-1"]


def test_a_range_is_serialised_once() -> None:
    log, store = Log(), Store()
    for n in range(4):
        append(log, store, put(objects.service(n)))
    assert log.merged(1, 4) is log.merged(1, 4)
    assert log.merged(3, 4) is log.between(3, 4)[0].message


def test_causes_are_joined_and_counted_s9() -> None:
    log, store = Log(), Store()
    for n in range(12):
        append(log, store, put(objects.service(1, n), str(n)))
    merged = delta(log.merged(0, 12))
    assert len(merged.causes) == MAX_CAUSES
    assert merged.more_causes == 12 - MAX_CAUSES
    assert merged.causes[0].resource_version == "11"


def test_the_ring_lets_go_by_size_and_by_age() -> None:
    log, store = Log(max_bytes=500, max_age=60), Store()
    for n in range(20):
        append(log, store, put(objects.service(n)))
    assert log.size <= 500
    assert 0 < log.tail < log.head == 20
    assert not log.holds(0)
    with pytest.raises(LookupError):
        log.merged(0, 20)
    log.expire(61.0)
    assert log.tail == log.head == 20
    assert log.holds(20)


def test_what_lacks_a_revision_that_the_ring_has_dropped_is_behind_for_ever_longer() -> None:
    log, store = Log(max_age=60), Store()
    log.begin(0)
    for now in (10.0, 20.0):
        append(log, store, put(objects.service(int(now))), now=now)
    assert [log.age_after(rev, 50.0) for rev in (1, 2, 3)] == [40.0, 30.0, 0.0]
    log.expire(500.0)
    assert [log.age_after(rev, 500.0) for rev in (1, 2, 3)] == [480.0, 480.0, 0.0]
    assert log.age_after(0, 500.0) == 0.0  # who has acknowledged nothing yet gets a snapshot


def test_a_very_large_change_takes_several_revisions_and_one_digest() -> None:
    log, store = Log(), Store()
    many = [put(objects.named_node(f"n{n}")) for n in range(MAX_OPS + 1)]
    append(log, store, *many)
    assert log.head == 2
    assert [batch.digest for batch in log.between(0, 2)] == [None, store.digest.value]


numbers = st.integers(0, 2)
facts = st.one_of(
    st.builds(lambda n, v: put(objects.service(n, v)), numbers, st.integers(0, 1)),
    st.builds(
        lambda n, e, p: put(objects.slice_of(n, e, port=p)),
        numbers,
        st.dictionaries(st.integers(1, 6), st.integers(0, 1), max_size=6),
        st.sampled_from([80, 80, 80, 81]),
    ),
    st.builds(lambda n: Fact(objects.service_key(n), None), numbers),
    st.builds(lambda n: Fact(objects.slice_key(n), None), numbers),
)


@given(st.lists(st.lists(facts, min_size=1, max_size=3), min_size=1, max_size=12), st.data())
def test_a_merged_range_does_what_its_batches_do_one_by_one_s9(batches: list[list[Fact]], data: st.DataObject) -> None:
    log, store = Log(), Store()
    states: list[State] = [{}]
    for batch in batches:
        append(log, store, *batch)
        if log.head == len(states):
            states.append({object_.key: object_ for object_ in store.objects()})
    for rev in range(log.head):
        ops = decode_ops(delta(log.merged(rev, rev + 1)).ops)
        assert applied(states[rev], ops) == states[rev + 1]
    for rev in range(log.head + 1):
        assert earlier(log, states[-1], rev) == states[rev]
    low = data.draw(st.integers(0, log.head))
    high = data.draw(st.integers(low, log.head))
    if low < high:
        merged = delta(log.merged(low, high))
        assert (merged.from_rev, merged.to_rev) == (low, high)
        assert applied(states[low], decode_ops(merged.ops)) == states[high]


def earlier(log: Log, head: State, rev: int) -> State:
    """The state at a revision, by what the first change after it says was there before."""
    before: State = {}
    gone = set()
    for change in (change for batch in log.between(rev, log.head) for change in batch.changes):
        if change.key not in before and change.key not in gone:
            gone.add(change.key)
            if change.before is not None:
                before[change.key] = change.before
    return {**{key: thing for key, thing in head.items() if key not in gone}, **before}


def test_the_version_of_a_list_stands_also_where_it_is_lower() -> None:
    store = Store()
    service = objects.service(1)
    store.replace(Kind.SERVICE, [put(service, "1100")], "1200")
    store.update([put(service, "1300")])
    assert store.versions == {Kind.SERVICE: "1300"}
    store.replace(Kind.SERVICE, [put(service, "1100")], "1020")  # the object is older than it: of the other history
    assert store.versions == {Kind.SERVICE: "1020"}
    store.update([put(service, "1021")])
    store.replace(Kind.SERVICE, [], "")
    assert store.versions == {Kind.SERVICE: "1021"}


def test_streams_that_lag_far_share_all_messages_but_their_first_ones() -> None:
    ways = {}
    for start in (17, 100, 333, 1023):
        way = [start]
        while way[-1] < 29_000:
            way.append(stage(way[-1], 29_000))
        ways[start] = list(pairwise(way))
    assert all(high - low <= STEPS[-1] for way in ways.values() for low, high in way)
    assert all(set(way[3:]) <= set(ways[17]) for way in ways.values())
    own = sum(high - low for way in ways.values() for low, high in set(way) - set(ways[17]) if (high - low) > 1)
    assert own < 4 * STEPS[-1]


def test_a_short_way_is_one_message() -> None:
    assert stage(17, 17 + DIRECT) == 17 + DIRECT


def test_merging_after_a_partition_merges_each_revision_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 streams, each at a revision of its own, lag 5,000 revisions: counted in batches that are merged."""
    store, log = Store(), Log()
    for number in range(5_100):
        append(log, store, put(objects.service(number % 50, number // 50)))
    merged: list[int] = []

    def counted(batches: Sequence[Batch]) -> Batch:
        merged.append(len(batches))
        return merge(batches)

    monkeypatch.setattr("controlplane.log.merge", counted)
    for start in range(64):
        at = start
        while at < log.head:
            to = stage(at, log.head)
            log.merged(at, to)
            at = to
    assert sum(merged) <= 2 * log.head + 64 * 32


def test_the_digest_of_the_oldest_revision_that_is_still_held_is_known_s5() -> None:
    store, log = Store(), Log(max_age=10.0)
    store.update([put(objects.service(1))])
    log.begin(store.digest.value)
    assert log.digest_at(1) == store.digest.value
    for now in range(3):
        append(log, store, put(objects.service(1, now + 2)), now=now * 6.0)

    assert log.tail == 2
    assert log.digest_at(2) is not None
    assert (log.digest_at(log.head), log.digest_at(1)) == (store.digest.value, None)


def test_after_a_restore_the_newest_version_is_that_of_an_object_which_is_there() -> None:
    """Else a wait asks other replicas, which listed at a lower version, for one that no object has any more."""
    store, kept, lost = Store(), objects.service(1), objects.service(2)
    store.update([Fact(kept.key, kept, "250"), Fact(lost.key, lost, "305")])
    store.replace(Kind.SERVICE, [Fact(kept.key, kept, "250")], "264")
    assert store.newest[Kind.SERVICE] == 250
    store.update([Fact(lost.key, None, "270", deleted=True)])
    store.update([Fact(kept.key, objects.service(1, 1), "272")])
    store.replace(Kind.SERVICE, [Fact(kept.key, objects.service(1, 1), "272")], "280")
    assert store.newest[Kind.SERVICE] == 272
    store.replace(Kind.SERVICE, [], "290")  # no restore: that it is gone is a change that others have to see
    assert store.newest[Kind.SERVICE] == 290
