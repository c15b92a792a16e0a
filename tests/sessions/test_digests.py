"""Today's agent says the digest of its state alone when it comes back; a replica asks for more where it needs more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.building import Done, at_once
from controlplane.snapshot import Snapshots
from controlplane.stream_phases import Phase
from deltaplane.digest import BUCKET, BUCKETS, LEAF, LEAVES, leaf_of, packed
from deltaplane.model import Upsert
from deltaplane.snapshot import PARTIAL, State
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions.link import Node, Replica
from tests.sessions.parting import MANY, Recorded, alter, away, bucket_of, fact, joined, service

ONE_KILOBYTE = 1024


class Heard(Recorded):
    """A link that also keeps what the agent says, and counts the bytes of both."""

    def __init__(self, replica: Replica, node: Node) -> None:
        super().__init__(replica, node)
        self.said: list[pb.WatchRequest] = []
        self.bytes = 0

    def deliver_up(self) -> None:
        if self.up:
            self.said.append(pb.WatchRequest.FromString(self.up[0]))
            self.bytes += len(self.up[0])
        super().deliver_up()

    def deliver_down(self) -> None:
        self.bytes += len(self.down[0]) if self.down else 0
        super().deliver_down()

    def forget(self) -> None:
        self.said.clear()
        self.sent.clear()
        self.replica.nodes.tally.number.clear()
        self.bytes = 0

    def questions(self) -> list[pb.DigestRequest]:
        return [message.digest_request for message in self.sent if message.HasField("digest_request")]

    def hello(self) -> pb.Hello:
        return next(message.hello for message in self.said if message.HasField("hello"))


def heard(number: int = MANY, node: Node | None = None) -> Heard:
    made = Heard(Replica(service(n) for n in range(number)), node or Node())
    made.connect()
    made.step()
    made.step(1.0)
    made.assert_same()
    made.forget()
    return made


def over(link: Heard, replica: Replica) -> Heard:
    """The same agent goes to another replica."""
    other = Heard(replica, link.node)
    link.cut()
    other.now = link.now
    other.connect()
    return other


@pytest.fixture
def link() -> Heard:
    """An agent that has 400 Services, and whose replica has nothing else to send."""
    return heard()


def test_coming_back_with_equal_states_takes_less_than_a_kilobyte_both_ways(link: Heard) -> None:
    other = over(link, Replica(link.replica.store.objects()))
    other.step(1.0)

    assert [message.WhichOneof("message") for message in other.said] == ["hello", "ack"]
    assert other.kinds() == ["welcome"]
    assert not other.hello().resume.bucket_digests
    assert other.bytes < ONE_KILOBYTE / 2
    other.step(1.0)
    other.assert_same()


def test_only_the_leaves_that_differ_are_sent_after_two_questions(link: Heard) -> None:
    away(link, fact(1, 1), fact(2, None), fact(MANY, 0))
    link.step(1.0)

    changed = [fact(n).key for n in (1, 2, MANY)]
    assert [list(question.buckets) for question in link.questions()] == [[], sorted(map(bucket_of, changed))]
    (begin,) = link.begins()
    assert (list(begin.leaves), list(begin.buckets)) == (sorted(map(leaf_of, changed)), [])
    assert begin.counts.services <= 4
    assert link.resumes() == {("CONNECTED", "partial"): 1}
    assert link.stream is not None
    assert link.stream.brought_up == f"CONNECTED: partial, 3 of {LEAVES} leaves"
    link.step(1.0)
    link.assert_same()


def test_a_state_that_became_equal_meanwhile_needs_one_question_and_no_object(link: Heard) -> None:
    away(link, fact(1, 1))
    link.pull()
    link.deliver_up()
    link.pull()
    assert link.kinds() == ["welcome", "digest_request"]
    link.replica.put(fact(1, 0), now=link.now)
    link.step(1.0)

    assert [(list(begin.leaves), begin.counts.services) for begin in link.begins()] == [([], 0)]
    assert link.resumes() == {("CONNECTED", "nothing"): 1}
    link.step(1.0)
    link.assert_same()


def test_what_changes_between_the_questions_comes_too(link: Heard) -> None:
    away(link, fact(1, 1))
    pull = link.pull

    def changing() -> None:
        asked = len(link.questions())
        pull()
        for number in range(asked, len(link.questions())):
            link.replica.put(fact(10 + number, 1), fact(20 + number, None), now=link.now)

    link.pull = changing  # type: ignore[method-assign]
    link.step(1.0)
    del link.pull

    (begin,) = link.begins()
    assert set(begin.leaves) == {leaf_of(fact(n).key) for n in (1, 10, 11, 20, 21)}
    link.step(1.0)
    link.assert_same()


def test_an_altered_object_is_healed_by_one_leaf_after_one_question(link: Heard) -> None:
    alter(link, 7, 3)
    link.step(10.0)

    assert link.kinds() == ["heartbeat", "digest_request", "snapshot_begin", "snapshot_chunk", "snapshot_end"]
    assert list(link.begins()[0].leaves) == [leaf_of(fact(7).key)]
    link.step(1.0)
    link.assert_same()


def test_the_answer_is_of_the_state_after_what_was_sent_before_where_the_log_left_a_stream_behind(link: Heard) -> None:
    link.node.busy = True
    for number in range(70):
        link.replica.put(fact(number, 1), now=link.now)
        link.pull()
    assert link.stream is not None
    assert link.stream.sent_rev < link.replica.log.head
    link.replica.log.expire(1e6)
    link.pull()
    assert link.stream.phase is Phase.ASKING
    link.node.busy = False
    link.step(1.0)

    lacked = {leaf_of(fact(n).key) for n in range(64, 70)}
    assert [set(begin.leaves) for begin in link.begins()] == [lacked]
    assert link.resumes() == {("LEFT_BEHIND", "partial"): 1}
    link.step(1.0)
    link.assert_same()


def test_an_agent_that_does_not_answer_gets_the_whole_state_in_the_end(link: Heard) -> None:
    away(link, fact(1, 1))
    deliver = link.deliver_up

    def deaf() -> None:
        if link.up and pb.WatchRequest.FromString(link.up[0]).HasField("digests"):
            link.up.popleft()
        deliver()

    link.deliver_up = deaf  # type: ignore[method-assign]
    link.step(1.0)
    assert link.begins() == []
    link.step(10.0)

    assert [begin.partial for begin in link.begins()] == [False]
    link.step(1.0)
    link.assert_same()


def test_the_answer_to_an_earlier_question_says_nothing_and_ends_nothing(link: Heard) -> None:
    away(link, fact(1, 1))
    late = pb.WatchRequest(digests=pb.Digests(number=7, buckets=[1] * BUCKETS))
    link.pull()
    link.deliver_up()
    link.pull()
    assert link.stream is not None
    link.stream.on_message(late, link.now)
    assert link.stream.phase is Phase.ASKING
    link.step(1.0)
    link.stream.on_message(late, link.now)
    link.step(1.0)

    assert link.stream.closed is None
    assert [begin.partial for begin in link.begins()] == [True]
    link.assert_same()


@pytest.mark.parametrize("number", [0, 1, 255, 257])
def test_an_answer_of_another_number_of_digests_leads_to_the_whole_state(link: Heard, number: int) -> None:
    away(link, fact(1, 1))
    deliver = link.deliver_up

    def other() -> None:
        request = pb.WatchRequest.FromString(link.up[0]) if link.up else pb.WatchRequest()
        if request.HasField("digests"):
            request.digests.buckets[:] = [1] * number
            link.up[0] = request.SerializeToString()
        deliver()

    link.deliver_up = other  # type: ignore[method-assign]
    link.step(1.0)

    assert [begin.partial for begin in link.begins()] == [False]


def test_digests_before_any_question_are_an_error_of_the_agent(link: Heard) -> None:
    stream = link.replica.stream()
    stream.on_message(pb.WatchRequest(digests=pb.Digests(number=1)), 0.0)

    assert stream.closed is not None
    assert stream.closed.status == "INVALID_ARGUMENT"


@pytest.mark.parametrize("buckets", [[3, 2], [2, 2], [BUCKETS]])
def test_a_question_that_is_none_is_answered_by_a_resync_request(link: Heard, buckets: list[int]) -> None:
    question = pb.WatchResponse(digest_request=pb.DigestRequest(number=1, buckets=buckets)).SerializeToString()
    link.down.append(question)
    link.step(1.0)

    assert "not ascending" in link.node.reports[0].text
    link.step(1.0)
    link.assert_same()


def spoilt(message: pb.WatchResponse, change: str) -> None:
    """A partial snapshot's begin, or its end, otherwise than it was sent."""
    begin = message.snapshot_begin
    if change == "digest" and message.HasField("snapshot_end"):
        message.snapshot_end.digest ^= message.snapshot_end.counts.services < MANY
    if not (message.HasField("snapshot_begin") and begin.partial):
        return
    match change:
        case "leaf":
            begin.leaves[0] ^= 1
        case "beyond":
            begin.leaves.append(LEAVES)
        case "both":
            begin.buckets.append(begin.leaves[0] // 16)


def spoil(link: Heard, change: str) -> None:
    pull = link.pull

    def spoiling() -> None:
        pull()
        for index, data in enumerate(link.down):
            message = pb.WatchResponse.FromString(data)
            spoilt(message, change)
            link.down[index] = message.SerializeToString()

    link.pull = spoiling  # type: ignore[method-assign]


@pytest.mark.parametrize("change", ["digest", "leaf", "beyond", "both"])
def test_a_snapshot_of_leaves_that_fails_is_followed_by_a_whole_one_without_a_question(
    link: Heard, change: str
) -> None:
    spoil(link, change)
    alter(link, 7, 3)
    before = dict(link.node.kernel)
    link.step(10.0)
    assert link.node.kernel == before
    link.settle(60)

    assert [begin.partial for begin in link.begins()] == [True, False]
    assert len(link.questions()) == 1
    assert link.replica.nodes.resyncs["PARTIAL"] == 1
    link.assert_same()


def test_an_agent_whose_partial_one_failed_answers_its_next_replica_by_no_digests(link: Heard) -> None:
    link.node.agent._requester.whole = True
    other = over(link, Replica([*link.replica.store.objects(), service(MANY)]))
    other.step(1.0)

    assert [begin.partial for begin in other.begins()] == [False]
    assert not other.hello().resume.bucket_digests


def test_agents_that_lack_the_same_share_one_build_and_one_comparison(link: Heard) -> None:
    nodes, built = [Node() for _ in range(3)], []

    def counting(state: State, encoding: pb.Encoding.ValueType, done: Done) -> None:
        built.append(state.places)
        at_once(state, encoding, done)

    link.replica.snapshots = Snapshots(link.replica.store, link.replica.log, counting)
    for each in nodes:
        before = Heard(link.replica, each)
        before.connect()
        before.step(1.0)
        before.cut()
    built.clear()
    link.replica.put(fact(1, 1), fact(2, 1), now=100.0)
    link.replica.log.expire(1e6)
    for each in nodes:
        again = Heard(link.replica, each)
        again.now = 100.0
        again.connect()
        again.step(1.0)
        assert [len(begin.leaves) for begin in again.begins()] == [2]
        link.replica.put(fact(3 + len(built), 1), now=101.0)  # what follows it is a delta for whoever comes next

    assert [None if places is None else places.level for places in built] == [LEAF]


def test_a_stream_keeps_no_digests_that_were_answered(link: Heard) -> None:
    away(link, fact(1, 1))
    link.step(1.0)

    assert link.stream is not None
    inquiry = link.stream._feed._catch_up.inquiry
    assert (inquiry.held, inquiry._base) == (b"", b"")


# ------------------------------------------------------------ programs of before


class Earlier(Heard):
    """A link to a replica of before the digests on request."""

    def connect(self) -> None:
        super().connect()
        assert self.stream is not None
        take = self.stream.on_message

        def earlier(request: pb.WatchRequest, now: float) -> list[object]:
            assert not request.HasField("digests")
            if request.HasField("hello"):
                request.hello.capabilities[:] = [name for name in request.hello.capabilities if name == PARTIAL]
            return take(request, now)  # type: ignore[return-value]

        self.stream.on_message = earlier  # type: ignore[method-assign, assignment]

    def pull(self) -> None:
        super().pull()
        for index, data in enumerate(self.down):
            message = pb.WatchResponse.FromString(data)
            if message.HasField("welcome"):
                del message.welcome.capabilities[:]
                self.down[index] = message.SerializeToString()


def test_at_a_replica_of_before_the_agent_resumes_as_ever() -> None:
    link = Earlier(Replica(service(n) for n in range(MANY)), Node())
    link.connect()
    link.step(1.0)
    link.step(1.0)
    link.forget()
    away(link, fact(1, 1))
    link.step(1.0)

    assert len(link.hello().resume.bucket_digests) == BUCKETS
    assert [list(begin.buckets) for begin in link.begins()] == [[bucket_of(fact(1).key)]]
    link.step(1.0)
    link.assert_same()


def test_an_agent_that_goes_from_a_new_replica_to_one_of_before_is_brought_up_all_the_same(link: Heard) -> None:
    earlier = Earlier(Replica([*link.replica.store.objects(), service(MANY)]), link.node)
    link.cut()
    earlier.connect()
    earlier.step(1.0)
    assert [begin.partial for begin in earlier.begins()] == [False]
    earlier.step(1.0)
    earlier.assert_same()
    earlier.forget()

    away(earlier, fact(1, 1))
    earlier.step(1.0)

    assert [begin.partial for begin in earlier.begins()] == [True], "its Hello has the digests again"
    earlier.step(1.0)
    earlier.assert_same()


def test_an_agent_of_before_is_asked_for_nothing(link: Heard) -> None:
    before = joined(node=Node(capabilities=[PARTIAL]))
    away(before, fact(1, 1))
    before.step(1.0)

    assert before.kinds() == ["welcome", "snapshot_begin", "snapshot_chunk", "snapshot_end"]
    assert list(before.begins()[0].buckets) == [bucket_of(fact(1).key)]


# ------------------------------------------------------------ whatever differs

states = st.dictionaries(st.integers(0, 300), st.sampled_from([0, 1, 2]), max_size=120)


@given(here=states, there=states, later=states)
@settings(max_examples=60, deadline=None)
def test_the_resumed_state_is_the_replicas_and_only_objects_of_leaves_that_differ_are_sent(
    here: dict[int, int], there: dict[int, int], later: dict[int, int]
) -> None:
    link = Heard(Replica(service(n, v) for n, v in here.items()), Node())
    link.connect()
    link.step(1.0)
    mine = link.node.agent.mirror.digest.at(LEAF)
    other = over(link, Replica(service(n, v) for n, v in there.items()))
    other.node.agent.brake.released = True  # random states lose most Services
    theirs = other.replica.store.digest.at(LEAF)
    other.step(1.0)
    lacking = {leaf for leaf in range(LEAVES) if mine[leaf * 4 :][:4] != theirs[leaf * 4 :][:4]}
    sent = sum(begin.counts.services for begin in other.begins())

    assert sent <= sum(leaf_of(item.key) in lacking for item in other.replica.store.objects())
    assert all(set(begin.leaves) == lacking for begin in other.begins())
    other.replica.put(*(fact(n, v) for n, v in later.items()), now=other.now)
    other.settle(20)
    other.assert_same()


def test_the_digests_of_the_buckets_are_those_of_their_leaves_whatever_comes_and_goes() -> None:
    mirror = Node().agent.mirror
    for number in (*range(50), *range(0, 50, 3)):
        mirror.commit(mirror.prepare([Upsert(service(number, number % 4))]))
    expected = [0] * BUCKETS
    for leaf, digest in enumerate(mirror.digest.leaves):
        expected[leaf // 16] ^= digest

    assert mirror.digest.buckets == expected
    assert mirror.digest.at(BUCKET) == packed(expected, BUCKET)
    assert list(mirror.digest.children([2, 5])) == [
        mirror.digest.leaves[leaf] & 0xFFFFFFFF for bucket in (2, 5) for leaf in range(bucket * 16, bucket * 16 + 16)
    ]
