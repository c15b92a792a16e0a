"""One agent's stream, seen from the replica: what it is sent, and what it is believed to hold."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.batch import MAX_CAUSES
from controlplane.facts import Fact
from controlplane.session import Limits, Session
from controlplane.stream_events import Braked
from deltaplane.model import Kind
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2, objects_pb2
from tests.sessions import objects
from tests.sessions.link import Replica


@pytest.fixture
def replica() -> Replica:
    return Replica([objects.service(1), objects.slice_of(1, {1: 3, 2: 3, 3: 3})])


def hello(session: Session, now: float = 0.0, **fields: Any) -> None:
    filled: dict[str, Any] = {"node_name": "n1", "protocol_min": 1, "protocol_max": 1} | fields
    message = pb.Hello(**filled)
    session.on_message(pb.WatchRequest(hello=message), now)


def ack(session: Session, applied: int, now: float = 0.0, **fields: Any) -> list[Any]:
    message = pb.Ack(received_rev=applied, applied_rev=applied, **fields)
    return session.on_message(pb.WatchRequest(ack=message), now)


def messages(session: Session, now: float = 0.0) -> list[pb.WatchResponse]:
    out = []
    while (data := session.next_message(now, 5)) is not None:
        out.append(pb.WatchResponse.FromString(data))
    return out


def kinds(session: Session, now: float = 0.0) -> list[str | None]:
    return [message.WhichOneof("message") for message in messages(session, now)]


def following(replica: Replica) -> Session:
    session = replica.stream()
    hello(session)
    messages(session)
    ack(session, replica.log.head)
    return session


def change(replica: Replica, version: int, now: float = 0.0) -> None:
    replica.put(Fact(objects.service_key(1), objects.service(1, version)), now=now)


def resume(replica: Replica, rev: int, **fields: Any) -> dict[str, Any]:
    epoch, digest = replica.log.epoch, replica.store.digest.value
    filled: dict[str, Any] = {"epoch": epoch, "applied_rev": rev, "state_digest": digest} | fields
    return {"resume": pb.Resume(**filled)}


def test_first_contact_is_a_snapshot(replica: Replica) -> None:
    session = replica.stream()
    hello(session)
    assert kinds(session) == ["welcome", "snapshot_begin", "snapshot_chunk", "snapshot_end"]


def test_no_agent_is_taken_before_the_state_is_complete_s1(replica: Replica) -> None:
    session = Session(replica.store, replica.log, replica.snapshots, ready=lambda: False)
    hello(session)
    assert session.closed is not None
    assert session.closed.status == "UNAVAILABLE"
    assert messages(session) == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"node_name": ""}, "INVALID_ARGUMENT"), ({"protocol_min": 2, "protocol_max": 3}, "FAILED_PRECONDITION")],
)
def test_a_hello_that_cannot_be_served_is_refused(replica: Replica, fields: dict[str, Any], status: str) -> None:
    session = replica.stream()
    hello(session, **fields)
    assert session.closed is not None
    assert session.closed.status == status


def test_anything_before_hello_is_refused(replica: Replica) -> None:
    session = replica.stream()
    ack(session, 0)
    assert session.closed is not None
    assert session.closed.status == "INVALID_ARGUMENT"


def test_same_epoch_and_revision_in_the_ring_is_one_merged_delta(replica: Replica) -> None:
    for version in range(1, 4):
        change(replica, version)
    session = replica.stream()
    hello(session, **resume(replica, 1, state_digest=replica.digests[replica.log.epoch, 1]))
    welcome, delta = messages(session)
    assert welcome.welcome.decision == pb.RESUME_DECISION_DELTA
    assert (delta.delta.from_rev, delta.delta.to_rev, len(delta.delta.ops)) == (1, 4, 1)


def test_another_epoch_with_an_equal_state_needs_nothing_s3(replica: Replica) -> None:
    session = replica.stream()
    hello(session, **resume(replica, 900, epoch=b"another"))
    assert kinds(session) == ["welcome"]
    assert session.sent_rev == replica.log.head


@pytest.mark.parametrize(
    "fields",
    [{"epoch": b"another", "state_digest": 1}, {"applied_rev": 99, "state_digest": 1}, {"state_digest": 1}],
    ids=["another epoch", "a revision of the future", "a state that is not what it was"],
)
def test_what_cannot_be_resumed_is_a_snapshot(replica: Replica, fields: dict[str, Any]) -> None:
    change(replica, 1)
    session = replica.stream()
    hello(session, **resume(replica, 2, **fields))
    assert kinds(session)[:2] == ["welcome", "snapshot_begin"]


def test_sent_is_not_held_until_acknowledged_s11(replica: Replica) -> None:
    session = following(replica)
    change(replica, 1)
    messages(session)
    assert (session.sent_rev, session.applied_rev) == (2, 1)
    ack(session, 2)
    assert session.applied_rev == 2


def test_an_ack_of_what_was_never_sent_ends_the_stream(replica: Replica) -> None:
    session = following(replica)
    ack(session, 50)
    assert session.closed is not None


def test_beyond_the_window_changes_are_merged(replica: Replica) -> None:
    replica.limits = Limits(window_deltas=2)
    session = following(replica)
    for version in range(1, 9):
        change(replica, version)
        messages(session)
    assert session.sent_rev == 3
    assert session.state(0.0) == inspection_pb2.NODE_STATE_MERGING
    ack(session, 3)
    (delta,) = messages(session)
    assert (delta.delta.from_rev, delta.delta.to_rev, len(delta.delta.ops)) == (3, 9, 1)


def test_an_ack_leaves_nothing_to_send_unless_it_opens_a_full_window(replica: Replica) -> None:
    """The server wakes a stream's writer after a message only where something is pending."""
    replica.limits = Limits(window_deltas=2)
    session = following(replica)
    before, after = [], []
    for version in range(1, 4):
        change(replica, version)
        before.append(session.pending)
        messages(session)
        after.append(session.pending)
    assert (before, after) == ([True, True, False], [False] * 3), "the third waits for an Ack"
    found = []
    for rev in (3, 4):
        ack(session, rev)
        found.append(session.pending)
        messages(session)
    session.go_away("enough")
    assert [*found, session.pending] == [True, False, True]


def test_the_acks_of_a_round_share_its_causes_however_their_commits_take_turns(replica: Replica) -> None:
    for number in range(1, 25):
        change(replica, number)
    head = replica.log.head
    ranges = [(head - 24, head - 12), (head - 12, head)] * 2
    (first, second, *again) = [replica.log.causes(*each) for each in ranges]
    assert [len(first[0]), first[1]] == [MAX_CAUSES, 12 - MAX_CAUSES]
    assert again[0] is first
    assert again[1] is second


def test_causes_of_an_ended_history_are_not_those_of_the_next_one(replica: Replica) -> None:
    change(replica, 1)
    head = replica.log.head
    assert len(replica.log.causes(head - 1, head)[0]) == 1
    replica.log.renew(replica.store.digest.value)
    assert not replica.log.causes(head - 1, head)[0]


def test_an_ack_tells_why_each_commit_was(replica: Replica) -> None:
    session = following(replica)
    change(replica, 1, now=3.0)
    messages(session)
    change(replica, 2)
    messages(session)
    (applied,) = ack(session, 3, commits=[pb.CommitReport(to_rev=3)])
    assert [cause.object.name for cause in applied.causes] == ["svc-1", "svc-1"]
    assert (applied.emitted_unix_nano, applied.sent_unix_nano) == (3_000_000_000, 5)


def test_where_nobody_takes_commits_an_ack_tells_of_none_and_counts_all_the_same(replica: Replica) -> None:
    session = Session(replica.store, replica.log, replica.snapshots, listens=lambda: False)
    hello(session)
    messages(session)
    ack(session, replica.log.head)
    change(replica, 1)
    messages(session)
    assert ack(session, 2, commits=[pb.CommitReport(to_rev=2)]) == []
    assert session.applied_rev == 2
    change(replica, 2)
    assert kinds(session) == ["delta"], "what was acknowledged is out of the window"


@pytest.mark.parametrize(("streams", "milliseconds"), [(1, 500), (1000, 500), (2500, 1250), (50_000, 1500)])
def test_the_more_streams_a_replica_has_the_more_seldom_it_asks_for_acks(
    replica: Replica, streams: int, milliseconds: int
) -> None:
    session = Session(replica.store, replica.log, replica.snapshots, streams=lambda: streams)
    hello(session)
    assert messages(session)[0].welcome.min_ack_interval_ms == milliseconds


def test_a_stream_the_ring_has_left_behind_gets_a_snapshot(replica: Replica) -> None:
    session = following(replica)
    for version in range(1, 4):
        change(replica, version)
    replica.log.expire(1e9)
    assert kinds(session) == ["snapshot_begin", "snapshot_chunk", "snapshot_end"]


def test_a_resync_never_shows_an_older_state(replica: Replica) -> None:
    session = following(replica)  # the snapshot of revision 1 is kept
    change(replica, 1)
    messages(session)
    session.on_message(pb.WatchRequest(resync_request=pb.ResyncRequest()), 0.0)
    assert messages(session)[0].snapshot_begin.rev == 2


def test_resyncs_are_paced(replica: Replica) -> None:
    session = following(replica)
    request = pb.WatchRequest(resync_request=pb.ResyncRequest())
    session.on_message(request, 100.0)
    assert "snapshot_end" in kinds(session, 100.0)
    session.on_message(request, 101.0)
    assert "snapshot_begin" not in kinds(session, 101.0)
    assert session.deadline() <= 105.0
    assert "snapshot_end" in kinds(session, 105.0)


def test_whoever_asks_again_and_again_still_gets_a_resync(replica: Replica) -> None:
    session = following(replica)
    request = pb.WatchRequest(resync_request=pb.ResyncRequest())
    begun = []
    for second in range(100, 120):
        session.on_message(request, float(second))
        begun += [second for kind in kinds(session, float(second)) if kind == "snapshot_begin"]
    assert begun == [100, 105, 110, 115]


def test_the_newest_stream_of_a_node_wins_s15(replica: Replica) -> None:
    older, newer = replica.stream(), replica.stream()
    hello(older)
    hello(newer)
    assert older.closed is not None
    assert older.closed.status == "ABORTED"
    assert newer.closed is None
    assert replica.nodes.get("n1") is newer


def test_a_replica_that_is_behind_waits_until_it_has_caught_up() -> None:
    replica = Replica()
    replica.put(Fact(objects.service_key(1), objects.service(1), "10"))
    session = replica.stream()
    seen = [objects_pb2.KIND_SERVICE]
    versions = [pb.ResourceVersion(kind=kind, version="12") for kind in seen]
    hello(session, **resume(replica, 1, epoch=b"another", state_digest=1, versions=versions))
    assert messages(session, 1.0) == []
    assert session.deadline() == 5.0
    replica.put(Fact(objects.service_key(1), objects.service(1, 1), "12"))
    assert kinds(session, 2.0)[0] == "welcome"
    assert replica.nodes.held == {"caught up": 1}


def test_a_replica_that_stays_behind_goes_on_after_a_while_and_says_so() -> None:
    replica = Replica()
    replica.put(Fact(objects.service_key(1), objects.service(1), "10"))
    session = replica.stream()
    versions = [pb.ResourceVersion(kind=objects_pb2.KIND_SERVICE, version="12")]
    hello(session, **resume(replica, 1, epoch=b"another", state_digest=1, versions=versions))
    assert "behind" in messages(session, 5.0)[0].welcome.reason
    assert replica.nodes.held == {"still behind": 1}


def test_an_agent_of_the_history_before_a_restore_waits_once_and_learns_the_lower_versions() -> None:
    replica = Replica()
    replica.put(Fact(objects.service_key(1), objects.service(1), "1200"))
    before = replica.store.digest.value
    restored = [Fact(objects.service_key(1), objects.service(1, 1), "1005")]
    changes = replica.store.replace(Kind.SERVICE, restored, "1020")
    replica.log.append(
        changes, digest=replica.store.digest.value, versions=replica.store.versions, now=0.0, unix_nano=0
    )
    versions = [pb.ResourceVersion(kind=objects_pb2.KIND_SERVICE, version="1200")]

    same = replica.stream()  # its own replica's epoch tells that it was not behind
    hello(same, **resume(replica, 2, state_digest=before, versions=versions))
    (welcome, delta, *_) = messages(same, 0.0)
    assert welcome.WhichOneof("message") == "welcome"
    assert [item.version for item in delta.delta.versions] == ["1020"]

    other = replica.stream()
    hello(other, **resume(replica, 1, epoch=b"another", state_digest=1, versions=versions))
    assert messages(other, 1.0) == []
    end = messages(other, 5.0)[-1].snapshot_end
    assert [item.version for item in end.versions] == ["1020"]

    again = replica.stream()
    hello(again, **resume(replica, 2, epoch=b"another", state_digest=1, versions=end.versions))
    assert kinds(again, 1.0)[0] == "welcome"


def test_an_idle_stream_has_a_heartbeat(replica: Replica) -> None:
    session = following(replica)
    assert kinds(session, 9.0) == []
    assert kinds(session, 10.0) == ["heartbeat"]
    assert kinds(session, 10.1) == []


def test_no_progress_is_stalled_but_idle_is_not(replica: Replica) -> None:
    session = following(replica)
    assert session.state(1000.0) == inspection_pb2.NODE_STATE_LIVE
    change(replica, 1, now=1000.0)
    messages(session, 1000.0)
    assert session.state(1001.0) == inspection_pb2.NODE_STATE_LIVE
    assert session.state(1200.0) == inspection_pb2.NODE_STATE_STALLED
    assert session.behind_seconds(1200.0) == 200.0
    assert session.closed is None


def test_go_away_is_sent_even_as_the_stream_closes(replica: Replica) -> None:
    session = following(replica)
    session.go_away("stopping", targets=["other:1"])
    session.close("UNAVAILABLE", "stopping")
    assert kinds(session) == ["go_away"]


def test_a_merged_delta_above_the_size_limit_is_sent_in_parts(replica: Replica) -> None:
    replica.limits = Limits(message_bytes=300)
    session = following(replica)
    for n in range(2, 12):
        replica.put(Fact(objects.service_key(n), objects.service(n)))
    spans = [(m.delta.from_rev, m.delta.to_rev) for m in messages(session)]
    assert len(spans) > 1
    assert spans[0][0] == 1
    assert spans[-1][1] == replica.log.head
    assert [low for low, _ in spans[1:]] == [high for _, high in spans[:-1]]


def test_a_stream_without_hello_wakes_nobody_until_its_limit_and_ends_then(replica: Replica) -> None:
    session = replica.stream()

    assert (kinds(session, now=5.0), session.deadline()) == ([], 15.0)
    assert (kinds(session, now=14.9), session.closed) == ([], None)
    assert kinds(session, now=15.0) == []
    assert session.closed is not None
    assert session.closed.status == "DEADLINE_EXCEEDED"


def test_a_brake_that_holds_is_told_once_and_again_when_it_held_nothing_meanwhile(replica: Replica) -> None:
    session = following(replica)
    held = pb.Brake(services_removed=35, services=40)

    told = [ack(session, 1, brake=held), ack(session, 1, brake=held), ack(session, 1), ack(session, 1, brake=held)]

    assert told == [[Braked(held)], [], [], [Braked(held)]]
    assert session.applied_rev == 1


def test_an_ack_with_a_brake_says_nothing_of_the_state(replica: Replica) -> None:
    session = following(replica)
    change(replica, 1)
    messages(session)
    ack(session, 2, brake=pb.Brake(services_removed=35, services=40))
    assert session.applied_rev == 1


def test_what_an_agent_says_is_pending_is_kept_until_its_next_ack(replica: Replica) -> None:
    session = following(replica)
    change(replica, 2)
    messages(session)
    rev = session.sent_rev
    for now, text in ((5.0, ""), (6.0, "the lock is held")):
        session.on_message(pb.WatchRequest(pending=pb.Pending(received_rev=rev, text=text)), now)
    pending = session.acked.pending
    assert pending is not None
    assert (pending.rev, pending.text, pending.since) == (rev, "the lock is held", 5.0)
    assert session.applied_rev < rev
    ack(session, rev)
    assert session.acked.pending is None
    assert session.closed is None


@pytest.mark.parametrize(
    ("pending", "text"),
    [
        (pb.Pending(received_rev=999), "Pending.received_rev: 999"),
        (pb.Pending(received_rev=1, text="x" * 5000), "Pending.text: 5000 characters"),
    ],
)
def test_a_pending_that_cannot_be_ends_the_stream(replica: Replica, pending: pb.Pending, text: str) -> None:
    session = following(replica)
    session.on_message(pb.WatchRequest(pending=pending), 1.0)
    assert session.closed is not None
    assert session.closed.status == "INVALID_ARGUMENT"
    assert text in session.closed.detail
