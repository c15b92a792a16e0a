"""Where the states of a replica and an agent differ, what differs is found and sent, and nothing else.

The agents here are of before the digests on request (`test_digests` has today's).
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.building import Done, at_once
from controlplane.facts import Fact
from controlplane.snapshot import Snapshots
from deltaplane.digest import BUCKET, Places
from deltaplane.model import Object, Upsert
from deltaplane.snapshot import PARTIAL, State
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.events import Send
from nodeagent.stream.handshake import Mode, identity
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica
from tests.sessions.parting import MANY, Recorded, alter, away, bucket_of, fact, joined, service
from tests.unit.controlplane.test_snapshot_builder import Later


@pytest.fixture
def link() -> Recorded:
    """An agent that has 400 Services, and whose replica has nothing else to send."""
    return joined()


def test_the_agent_says_that_it_takes_partial_snapshots() -> None:
    assert PARTIAL in identity("n1", Mode("nftables")).capabilities


def test_after_an_absence_beyond_the_log_only_the_buckets_that_differ_are_sent(link: Recorded) -> None:
    away(link, fact(1, 1), fact(2, None), fact(MANY, 0))
    link.step(1.0)

    (begin,) = link.begins()
    assert list(begin.buckets) == sorted({bucket_of(fact(n).key) for n in (1, 2, MANY)})
    assert begin.partial
    assert begin.counts.services == sum(
        bucket_of(item.key) in set(begin.buckets) for item in link.replica.store.objects()
    )
    assert begin.counts.services < 20
    assert begin.bytes < 1000
    assert link.sent[0].welcome.decision == pb.RESUME_DECISION_BUCKETS
    assert "revision 1 cannot be brought up by deltas in 3 of 256 buckets" in link.sent[0].welcome.reason
    assert link.resumes() == {("CONNECTED", "partial"): 1}
    link.step(1.0)
    link.assert_same()


def test_only_the_services_that_differ_are_written_to_the_kernel(link: Recorded) -> None:
    away(link, fact(1, 1), fact(2, None), fact(MANY, 0))
    link.step(1.0)

    changed = link.node.changes[-1]
    assert changed.touched.services == {("ns", "svc-1"), ("ns", "svc-2"), ("ns", f"svc-{MANY}")}
    assert not changed.complete


def test_another_replica_with_a_little_other_state_sends_what_differs(link: Recorded) -> None:
    other = Recorded(Replica([*link.replica.store.objects(), service(MANY)]), link.node)
    link.cut()
    other.connect()
    other.step(1.0)

    assert [len(begin.buckets) for begin in other.begins()] == [1]
    other.step(1.0)
    other.assert_same()


def test_an_altered_object_is_found_within_one_heartbeat_and_healed_by_one_bucket(link: Recorded) -> None:
    alter(link, 7, 3)
    link.step(10.0)

    assert link.kinds() == ["heartbeat", "snapshot_begin", "snapshot_chunk", "snapshot_end"]
    (begin,) = link.begins()
    assert list(begin.buckets) == [bucket_of(fact(7).key)]
    assert link.node.changes[-1].touched.services == {("ns", "svc-7")}
    assert link.resumes() == {("DIGEST_MISMATCH", "partial"): 1}
    link.step(1.0)
    link.assert_same()


def test_an_object_that_the_replica_lacks_goes_with_its_bucket_and_the_others_stay(link: Recorded) -> None:
    alter(link, MANY + 5, 0)
    link.step(10.0)
    link.step(1.0)

    assert len(link.begins()) == 1
    link.assert_same()


def test_equal_states_in_another_epoch_need_nothing(link: Recorded) -> None:
    other = Recorded(Replica(link.replica.store.objects()), link.node)
    link.cut()
    other.connect()
    other.step(1.0)

    assert other.kinds() == ["welcome"]
    assert other.resumes() == {("CONNECTED", "nothing"): 1}


def test_an_agent_that_asks_and_lacks_nothing_is_sent_no_object(link: Recorded) -> None:
    link.stream.on_message(pb.WatchRequest.FromString(asking(link)), link.now)  # type: ignore[union-attr]
    link.step(1.0)

    assert link.kinds() == ["snapshot_begin", "snapshot_end"]
    assert link.resumes() == {("GAP", "nothing"): 1}
    assert link.node.changes[-1].touched.services == frozenset()
    link.step(1.0)
    link.assert_same()


def asking(link: Link) -> bytes:
    from nodeagent.stream.resync_request import ResyncRequester
    from nodeagent.stream.validation import MisfitError

    misfit = MisfitError(pb.RESYNC_REASON_GAP, "a test asks")
    (_, send) = ResyncRequester(lambda _: None).ask(misfit, None, link.node.agent.mirror.digest)
    assert isinstance(send, Send)
    return send.message


def test_an_agent_without_the_capability_gets_the_whole_state() -> None:
    link = joined(node=Node(capabilities=()))
    away(link, fact(1, 1))
    link.step(1.0)
    alter(link, 7, 3)
    link.step(10.0)

    assert [(begin.partial, len(begin.buckets), begin.counts.services) for begin in link.begins()] == [
        (False, 0, MANY)
    ] * 2
    link.step(1.0)
    link.assert_same()


def test_where_most_buckets_differ_the_whole_state_is_sent(link: Recorded) -> None:
    away(link, *(fact(n, 1) for n in range(0, MANY, 2)))
    link.step(1.0)

    assert [begin.partial for begin in link.begins()] == [False]
    assert link.sent[0].welcome.decision == pb.RESUME_DECISION_SNAPSHOT
    assert link.resumes() == {("CONNECTED", "whole"): 1}


@pytest.mark.parametrize("number", [0, 1, 255, 257])
def test_digests_of_another_number_of_buckets_are_answered_by_the_whole_state(link: Recorded, number: int) -> None:
    session = link.replica.stream()
    hello = pb.Hello(node_name="n1", protocol_min=1, protocol_max=1, capabilities=[PARTIAL])
    hello.resume.epoch, hello.resume.bucket_digests[:] = b"another", [1] * number
    session.on_message(pb.WatchRequest(hello=hello), 0.0)

    messages = []
    while (data := session.next_message(0.0)) is not None:
        messages.append(pb.WatchResponse.FromString(data))

    assert messages[0].welcome.decision == pb.RESUME_DECISION_SNAPSHOT
    assert not messages[1].snapshot_begin.partial


# ------------------------------------------------------------ one for many, and what it costs


def test_agents_that_lack_the_same_share_one_build(link: Recorded) -> None:
    first, second, third = (Node(capabilities=[PARTIAL]) for _ in range(3))
    built = []

    def counting(state: State, encoding: pb.Encoding.ValueType, done: Done) -> None:
        built.append(state.places)
        at_once(state, encoding, done)

    link.replica.snapshots = Snapshots(link.replica.store, link.replica.log, counting)
    for each in (first, second, third):
        joined = Recorded(link.replica, each)
        joined.connect()
        joined.step(1.0)
        joined.cut()
    built.clear()
    link.replica.put(fact(1, 1), fact(2, 1), now=100.0)
    link.replica.log.expire(1e6)
    for each in (first, second, third):
        joined = Recorded(link.replica, each)
        joined.now = 100.0
        joined.connect()
        joined.step(1.0)
        assert [len(begin.buckets) for begin in joined.begins()] == [2]
        link.replica.put(fact(3 + len(built), 1), now=101.0)  # what follows is a delta for whoever comes next

    assert len(built) == 1


def test_the_index_of_buckets_is_that_of_all_objects_whatever_came_and_went() -> None:
    chance, replica = random.Random(5), Replica()
    for _ in range(300):
        replica.put(fact(chance.randrange(40), chance.choice([0, 1, None])))

    found = {bucket: set(replica.store.within(Places(BUCKET, frozenset({bucket})))) for bucket in range(256)}

    assert set().union(*found.values()) == set(replica.store.objects())
    assert all(bucket_of(item.key) == bucket for bucket, items in found.items() for item in items)


changes = st.lists(st.tuples(st.integers(0, 120), st.sampled_from([0, 1, 2, None])), max_size=30)


@given(rounds=st.lists(st.tuples(changes, changes, changes, st.booleans()), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_whatever_differs_the_mirror_equals_the_store_in_the_end(
    rounds: list[tuple[list[tuple[int, int | None]], ...]],
) -> None:
    link = Recorded(Replica(service(n) for n in range(60)), Node(capabilities=[PARTIAL]))
    link.connect()
    link.step(1.0)
    for there, here, later, gone in rounds:
        link.cut()
        mirror = link.node.agent.mirror
        for number, version in here:
            if version is not None:
                mirror.commit(mirror.prepare([Upsert(service(number, version))]))
        link.node.kernel = link.node.wanted()
        link.replica.put(*(fact(n, v) for n, v in there), now=link.now)
        if gone:
            link.replica.log.expire(link.now + 1e6)
        link.connect()
        link.pull()
        link.replica.put(*(fact(n, v) for n, v in later), now=link.now)
        link.step(1.0)
    link.settle(60)

    link.assert_same()


def test_objects_of_every_kind_are_found_by_their_bucket(link: Recorded) -> None:
    made: list[Object] = [objects.slice_of(1, {1: 3, 2: 3}), objects.node(1, "a")]
    away(link, *(Fact(item.key, item) for item in made))
    link.step(1.0)

    (begin,) = link.begins()
    assert (begin.counts.endpoint_slices, begin.counts.nodes) == (1, 1)
    link.step(1.0)
    link.assert_same()


def test_an_altered_object_is_found_by_the_next_delta_too(link: Recorded) -> None:
    alter(link, 7, 3)
    link.replica.put(fact(9, 1), now=link.now)
    link.step(1.0)

    assert link.kinds() == ["delta", "snapshot_begin", "snapshot_chunk", "snapshot_end"]
    assert {bucket_of(fact(n).key) for n in (7, 9)} == set(link.begins()[0].buckets)
    link.step(1.0)
    link.assert_same()


def test_an_unknown_patch_base_is_answered_by_the_buckets_that_differ_s13(link: Recorded) -> None:
    one, other, third = (objects.slice_of(1, {1: 3, 2: 3, 3: 3, last: 3}) for last in (4, 5, 6))
    link.replica.put(Fact(one.key, one), now=link.now)
    link.step(1.0)
    mirror = link.node.agent.mirror
    mirror.commit(mirror.prepare([Upsert(other)]))
    link.sent.clear()
    link.replica.put(Fact(third.key, third), now=link.now)
    link.step(1.0)

    assert link.kinds() == ["delta", "snapshot_begin", "snapshot_chunk", "snapshot_end"]
    assert list(link.begins()[0].buckets) == [bucket_of(one.key)]
    assert link.resumes() == {("MALFORMED", "partial"): 1}
    link.step(1.0)
    link.assert_same()


def test_what_changes_while_one_is_built_follows_as_a_delta(link: Recorded) -> None:
    later = Later()
    link.replica.snapshots = Snapshots(link.replica.store, link.replica.log, later)
    away(link, fact(1, 1))
    link.step(1.0)
    assert link.kinds() == ["welcome"]
    link.replica.put(fact(1, 2), fact(2, 1), now=link.now)
    later.finish()
    link.step(1.0)

    assert link.kinds() == ["welcome", "snapshot_begin", "snapshot_chunk", "snapshot_end", "delta"]
    link.step(1.0)
    link.assert_same()


def test_a_stream_keeps_no_digests_that_were_answered(link: Recorded) -> None:
    away(link, fact(1, 1))
    link.step(1.0)

    assert link.stream is not None
    assert not link.stream.hello.resume.bucket_digests
