"""The agent's side of a stream: what enters the mirror, what is refused, and when it is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.facts import Fact
from deltaplane.model import Object
from deltaplane.panel import in_panel
from deltaplane.snapshot import build
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.events import Changed, Event, Record, Report, Send
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.session import Session
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica


@pytest.fixture
def link() -> Link:
    replica = Replica([objects.service(1), objects.slice_of(1, {1: 3, 2: 3, 3: 3}), objects.node(1)])
    link = Link(replica, Node())
    link.connect()
    link.step()
    link.step()
    return link


def agent_of(link: Link) -> Session:
    return link.node.agent


def change(link: Link, *items: Object, traceparent: str = "", ack_now: bool = False) -> bytes:
    """The message that says the change, not delivered."""
    link.replica.put(*(Fact(item.key, item) for item in items), now=link.now)
    assert link.stream is not None
    message = link.stream.next_message(link.now)
    assert message is not None

    def edit(delta: pb.Delta) -> None:
        for cause in delta.causes:
            cause.traceparent = traceparent
        delta.ack_now = ack_now

    return edited(message, edit)


def edited(message: bytes, edit: Callable[[pb.Delta], Any]) -> bytes:
    response = pb.WatchResponse.FromString(message)
    edit(response.delta)
    return response.SerializeToString()


def requests(events: list[Event]) -> list[pb.WatchRequest]:
    return [pb.WatchRequest.FromString(event.message) for event in events if isinstance(event, Send)]


def refused(agent: Session, message: bytes, reason: pb.ResyncReason.ValueType) -> None:
    """The message is answered by a ResyncRequest, and the mirror stays as it was (S12)."""
    before = (agent.rev, agent.mirror.digest.value)
    events = agent.received(message, 1.0)
    assert [request.resync_request.reason for request in requests(events)] == [reason]
    assert any(isinstance(event, Report) for event in events)
    assert not any(isinstance(event, Changed | Record) for event in events)
    assert (agent.rev, agent.mirror.digest.value) == before


def test_a_delta_says_what_it_touched_and_what_to_keep(link: Link) -> None:
    message = change(link, objects.service(1, 1))
    changed, record = agent_of(link).received(message, 1.0)
    assert isinstance(changed, Changed)
    assert changed.touched.services == {("ns", "svc-1")}
    assert not changed.complete
    assert record == Record((message,), whole=False)


def test_a_gap_is_never_guessed_s2(link: Link) -> None:
    change(link, objects.service(1, 1))
    refused(agent_of(link), change(link, objects.service(1, 2)), pb.RESYNC_REASON_GAP)


def test_a_repeated_delta_is_not_applied_s2(link: Link) -> None:
    message = change(link, objects.service(1, 1))
    agent_of(link).received(message, 1.0)
    refused(agent_of(link), message, pb.RESYNC_REASON_GAP)


def test_a_delta_of_another_epoch_is_not_applied_s3(link: Link) -> None:
    message = edited(change(link, objects.service(1, 1)), lambda delta: setattr(delta, "epoch", b"x" * 16))
    refused(agent_of(link), message, pb.RESYNC_REASON_GAP)


def test_a_wrong_digest_is_seen_before_anything_is_taken_s5(link: Link) -> None:
    message = edited(change(link, objects.service(1, 1)), lambda delta: setattr(delta, "digest", 7))
    refused(agent_of(link), message, pb.RESYNC_REASON_DIGEST_MISMATCH)


def test_a_key_that_stands_twice_rejects_the_delta_s13(link: Link) -> None:
    message = edited(change(link, objects.service(1, 1)), lambda delta: delta.ops.append(delta.ops[0]))
    refused(agent_of(link), message, pb.RESYNC_REASON_MALFORMED)


def test_an_unknown_patch_base_rejects_the_delta_s13(link: Link) -> None:
    def edit(delta: pb.Delta) -> None:
        delta.ops[0].endpoint_slice_patch.base_hash = 7

    message = edited(change(link, objects.slice_of(1, {1: 3, 2: 1, 3: 3})), edit)
    refused(agent_of(link), message, pb.RESYNC_REASON_MALFORMED)


def test_bytes_that_are_no_message_are_refused_s12(link: Link) -> None:
    refused(agent_of(link), b"\xff\xff\xff", pb.RESYNC_REASON_MALFORMED)


def test_an_unsupported_op_is_reported_and_acknowledged_as_such_s14(link: Link) -> None:
    message = edited(change(link, objects.service(1, 1)), lambda delta: delta.ops.add().config_flag.SetInParent())
    events = agent_of(link).received(message, 1.0)
    assert [event.code for event in events if isinstance(event, Report)] == ["UNSUPPORTED"]
    data = agent_of(link).applied(agent_of(link).rev, 10.0)
    assert data is not None
    assert pb.WatchRequest.FromString(data).ack.unsupported_ops == 1


def snapshot_of(link: Link) -> list[bytes]:
    return list(build(agent_of(link).capture()).messages)


def parsed(message: bytes) -> pb.WatchResponse:
    return pb.WatchResponse.FromString(message)


def wrong_count(messages: list[bytes]) -> None:
    end = parsed(messages[-1])
    end.snapshot_end.counts.services += 1
    messages[-1] = end.SerializeToString()


def wrong_digest(messages: list[bytes]) -> None:
    end = parsed(messages[-1])
    end.snapshot_end.digest += 1
    messages[-1] = end.SerializeToString()


def wrong_checksum(messages: list[bytes]) -> None:
    chunk = parsed(messages[1])
    chunk.snapshot_chunk.crc32 ^= 1
    messages[1] = chunk.SerializeToString()


def chunk_lost(messages: list[bytes]) -> None:
    del messages[1]


def chunk_repeated(messages: list[bytes]) -> None:
    messages.insert(1, messages[1])


@pytest.mark.parametrize("damage", [wrong_count, wrong_digest, wrong_checksum, chunk_lost, chunk_repeated])
def test_a_snapshot_that_does_not_match_sweeps_nothing_s6(link: Link, damage: Callable[[list[bytes]], None]) -> None:
    messages = snapshot_of(link)
    damage(messages)
    agent, held = agent_of(link), len(link.node.agent.mirror)
    events = [event for message in messages for event in agent.received(message, 1.0)]
    assert len(agent.mirror) == held
    assert not any(isinstance(event, Changed) for event in events)
    assert [request.WhichOneof("message") for request in requests(events)] == ["resync_request"]


def test_a_snapshot_touches_only_what_differs_s6(link: Link) -> None:
    events = [event for message in snapshot_of(link) for event in agent_of(link).received(message, 1.0)]
    (changed,) = [event for event in events if isinstance(event, Changed)]
    assert changed.complete
    assert not changed.touched.services


def test_a_few_services_may_all_go_s7(link: Link) -> None:
    link.replica.put(Fact(objects.service_key(1), None))
    link.step()
    assert not link.node.agent.mirror.services


def test_an_ack_waits_for_its_interval_and_is_cumulative(link: Link) -> None:
    agent = agent_of(link)
    link.now = 100.0
    link.step()
    for version in (1, 2):
        agent.received(change(link, objects.service(1, version)), 100.0)
        assert agent.applied(agent.rev, 100.0, report=pb.CommitReport(commit_ns=version)) is None
    assert agent.tick(100.1) == []
    (data,) = agent.tick(100.6)
    ack = pb.WatchRequest.FromString(data).ack
    assert (ack.applied_rev, ack.received_rev) == (agent.rev, agent.rev)
    assert [report.commit_ns for report in ack.commits] == [1, 2]
    assert ack.commits[0].ack_delay_ns == pytest.approx(600_000_000, abs=1000)
    assert agent.tick(101.6) == []


@pytest.mark.parametrize("urgent", ["trace", "failure", "waiter"])
def test_somebody_waiting_is_answered_at_once(link: Link, urgent: str) -> None:
    agent = agent_of(link)
    link.now = 100.0
    link.step()
    failed = [pb.ObjectFailure(text="no")] if urgent == "failure" else []
    traceparent = "00-1" if urgent == "trace" else ""
    message = change(link, objects.service(1, 1), traceparent=traceparent, ack_now=urgent == "waiter")
    agent.received(message, 100.0)
    assert agent.applied(agent.rev, 100.0, failed=failed) is not None


def test_of_many_nodes_a_trace_has_a_few_answer_at_once(link: Link) -> None:
    agent, others = agent_of(link), [objects.node(number) for number in range(1, 33)]
    agent.received(change(link, *others), 100.0)
    agent.applied(agent.rev, 100.0, failed=[])
    traces = [f"00-{number:032x}-{number:016x}-01" for number in range(60)]
    answered = []
    for number, trace in enumerate(traces):
        agent.received(change(link, objects.service(1, number + 1), traceparent=trace), 100.0)
        answered += [trace] if agent.applied(agent.rev, 100.0, failed=[]) is not None else []
    name = "n1"  # of `link.Node`
    assert answered == [trace for trace in traces if in_panel(trace, name, len(others))]
    assert 0 < len(answered) < len(traces) // 2


def test_applied_passes_a_failed_object_only_by_listing_it_s10(link: Link) -> None:
    agent = agent_of(link)
    agent.received(change(link, objects.service(1, 1)), 1.0)
    data = agent.applied(agent.rev, 1.0, failed=[pb.ObjectFailure(text="refused")])
    assert data is not None
    ack = pb.WatchRequest.FromString(data).ack
    assert (ack.applied_rev, [failure.text for failure in ack.failed]) == (agent.rev, ["refused"])


def test_nothing_is_acknowledged_as_applied_before_the_kernel_has_it_s11(link: Link) -> None:
    agent = agent_of(link)
    agent.received(change(link, objects.service(1, 1)), 1.0)
    beat = pb.WatchResponse(heartbeat=pb.Heartbeat(head_rev=agent.rev)).SerializeToString()
    (request,) = requests(agent.received(beat, 1.0))
    assert (request.ack.received_rev, request.ack.applied_rev) == (agent.rev, agent.rev - 1)


def test_silence_is_given_up_after_thirty_seconds(link: Link) -> None:
    agent = agent_of(link)
    assert agent.lost(29.0) is None
    assert "nothing heard" in str(agent.lost(31.0))


def test_go_away_is_followed(link: Link) -> None:
    message = pb.GoAway(reason="stopping", retry_after_ms=1500, targets=["other:1"])
    agent_of(link).received(pb.WatchResponse(go_away=message).SerializeToString(), 1.0)
    assert "stopping" in str(agent_of(link).lost(1.0))
    assert agent_of(link).redirect() == (1.5, ("other:1",))
    assert agent_of(link).redirect() is None


def test_a_cut_keeps_everything_s12(link: Link) -> None:
    held = link.node.agent.mirror.digest.value
    link.cut()
    assert link.node.agent.mirror.digest.value == held
    hello = pb.WatchRequest.FromString(agent_of(link).connected(1.0)).hello
    assert (hello.resume.applied_rev, hello.resume.state_digest) == (link.replica.log.head, held)


def test_another_replica_with_the_same_state_sends_nothing_s3(link: Link) -> None:
    other = Link(Replica(link.replica.store.objects()), link.node)
    link.cut()
    changes = len(link.node.changes)
    other.step()
    other.step()
    assert len(link.node.changes) == changes
    assert agent_of(link).cursor.epoch == other.replica.log.epoch
    other.assert_same()


def test_a_restarted_agent_resumes_by_revision(link: Link) -> None:
    link.replica.put(Fact(objects.service_key(2), objects.service(2)))
    link.step()
    again = Link(link.replica, Node(link.node.journal, link.node.kernel))
    link.replica.put(Fact(objects.service_key(3), objects.service(3)))
    again.settle(3)
    again.assert_same()
    assert [changed.complete for changed in again.node.changes] == [True, False]


def test_a_journal_that_stops_fitting_is_used_up_to_there(link: Link) -> None:
    for n in (2, 3):
        link.replica.put(Fact(objects.service_key(n), objects.service(n)))
        link.step()
    journal = link.node.journal
    del journal[-2]
    session = Session(pb.Hello(node_name="n1"), Mirror())
    restored = session.restore(journal, 0.0)
    assert restored is not None
    assert restored.rev == link.replica.log.head - 2
    assert Session(pb.Hello(), Mirror()).restore([journal[-1]], 0.0) is None


def test_a_captured_state_is_a_snapshot_that_restores(link: Link) -> None:
    session = Session(pb.Hello(), Mirror())
    assert session.restore(snapshot_of(link), 0.0) is not None
    assert session.mirror.digest.value == link.replica.store.digest.value
    assert session.cursor.versions == agent_of(link).cursor.versions


def beat_of(agent: Session, ahead: int = 0, wrong: int = 0) -> bytes:
    beat = pb.Heartbeat(head_rev=agent.rev + ahead, digest=agent.mirror.digest.value ^ wrong)
    return pb.WatchResponse(heartbeat=beat).SerializeToString()


def test_a_heartbeat_with_another_digest_at_this_revision_asks_for_what_is_true_s5(link: Link) -> None:
    agent = agent_of(link)
    refused(agent, beat_of(agent, wrong=1), pb.RESYNC_REASON_DIGEST_MISMATCH)


@pytest.mark.parametrize(("ahead", "wrong"), [(0, 0), (1, 1)], ids=["the same state", "a later revision"])
def test_another_heartbeat_asks_for_nothing(link: Link, ahead: int, wrong: int) -> None:
    agent = agent_of(link)
    events = agent.received(beat_of(agent, ahead, wrong), 1.0)
    assert not any(request.HasField("resync_request") for request in requests(events))


def test_what_never_got_a_revision_arrives_once_the_replica_has_begun_its_history_anew(link: Link) -> None:
    """The replica finds that its state is not its history's head, and every stream comes back."""
    lost = objects.service(7)
    link.replica.store.update([Fact(lost.key, lost)])
    link.step(seconds=1.0)
    assert ("ns", lost.name) not in link.node.agent.mirror.services

    link.replica.log.renew(link.replica.store.digest.value)
    link.step(seconds=1.0)
    link.step(seconds=1.0)

    assert link.node.agent.mirror.services["ns", lost.name] == lost
    link.assert_same()
