"""No message of either direction is larger than its reader takes, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from controlplane.facts import Fact
from controlplane.log import Log
from controlplane.resume import MAX_COMMITS, MAX_MESSAGE_BYTES, problem
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.store import Store
from deltaplane.digest import BUCKETS, StateDigest
from deltaplane.model import Kind, Object
from deltaplane.snapshot import ON_REQUEST, PARTIAL
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2
from nodeagent.stream.acks import Acks, pending, pending_of
from nodeagent.stream.cursor import Cursor
from nodeagent.stream.handshake import Mode, identity, introduce
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.resync_request import ResyncRequester
from nodeagent.stream.session import Session as AgentSession
from tests.sessions import objects

LONG = "x" * 200_000
MAX_NAME, ACK_BYTES, HELLO_BYTES, HARD_BYTES = 253, 64 * 1024, 128 * 1024, MAX_MESSAGE_BYTES


def failures(number: int, text: str = LONG) -> list[pb.ObjectFailure]:
    key = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="n" * 63, name="s" * 63)
    return [pb.ObjectFailure(key=key, text=text) for _ in range(number)]


def hello() -> list[bytes]:
    cursor = Cursor()
    cursor.epoch, cursor.rev = b"e" * 16, 1 << 63
    cursor.versions = {int(kind): "9" * 20 for kind in Kind}
    return [introduce(identity("n" * MAX_NAME, Mode("nftables", "auto", LONG)), cursor, StateDigest())]


def ack() -> list[bytes]:
    acks, failed = Acks(), failures(2000)
    for rev in range(1, 100):
        report = pb.CommitReport(to_rev=1 << 63, resolve_ns=1 << 63, commit_ns=1 << 63)
        acks.applied(rev, 0.0, report=report, failed=failed, unix_nano=1)
    made = acks.make(1 << 63, 1.0)
    said = pb.WatchRequest.FromString(made).ack
    assert len(said.failed) + said.more_failed == 2000
    assert len(said.failed) > 50
    assert len(made) < ACK_BYTES
    return [made]


def resync_request() -> list[bytes]:
    agent = AgentSession(pb.Hello(node_name="n"), Mirror())
    agent.connected(0.0)
    agent.received(pb.WatchResponse(welcome=pb.Welcome(protocol=1, epoch=b"e" * 16)).SerializeToString(), 0.0)
    service = objects_pb2.Service(namespace="ns", name=LONG, cluster_ips=[b"odd"])
    begin = pb.SnapshotBegin(epoch=b"e" * 16, chunks=1, counts=pb.Counts(services=1))
    agent.received(pb.WatchResponse(snapshot_begin=begin).SerializeToString(), 0.0)
    chunk = pb.SnapshotChunk(ops=[objects_pb2.Op(service=service)], encoding=pb.ENCODING_IDENTITY)
    events = agent.received(pb.WatchResponse(snapshot_chunk=chunk).SerializeToString(), 0.0)
    return [event.message for event in events if hasattr(event, "message")]


def digests() -> list[bytes]:
    requester = ResyncRequester(lambda _: None)
    asked = (pb.DigestRequest(number=1 << 31), pb.DigestRequest(number=1 << 31, buckets=range(BUCKETS)))
    made = [requester.answer(one, StateDigest()).message for one in asked]
    assert max(map(len, made)) < ACK_BYTES
    return made


def still_pending() -> list[bytes]:
    made = [
        pending((1 << 64) - 1, LONG * 100),
        *pending_of(pb.WatchResponse(delta=pb.Delta(to_rev=7)).SerializeToString()),
    ]
    assert max(map(len, made)) < 1024
    return made


def stream() -> list[bytes]:
    """All that a replica says: Welcome, a snapshot, deltas of large objects, a heartbeat, a GoAway."""
    ranges = tuple(f"10.{n // 256}.{n % 256}.0/24" for n in range(4000))
    store, log = Store(), Log()
    large = [msgspec.structs.replace(objects.service(n), load_balancer_source_ranges=ranges) for n in range(1, 40)]
    take(store, log, large[:20], begin=True)
    session = Session(store, log, Snapshots(store, log), server_id="s")
    greeting = pb.Hello(node_name="n", protocol_min=1, protocol_max=1, max_message_bytes=4 << 20)
    greeting.capabilities.extend((PARTIAL, ON_REQUEST))
    greeting.resume.epoch, greeting.resume.bucket_digests[:] = b"e" * 16, [1] * BUCKETS
    session.on_message(pb.WatchRequest(hello=greeting), 0.0)
    sent = drain(session, 0.0)
    session.on_message(pb.WatchRequest(digests=pb.Digests(number=1)), 0.0)
    sent += drain(session, 0.0)
    take(store, log, large[20:])
    take(store, log, [msgspec.structs.replace(one, session_affinity_seconds=7) for one in large])
    sent += drain(session, 1.0)
    sent += drain(session, 100.0)
    brake = pb.Brake(services_removed=40, services=40)
    session.on_message(pb.WatchRequest(ack=pb.Ack(brake=brake)), 100.0)
    assert session.release_brake()
    session.go_away("this replica stops")
    return sent + drain(session, 101.0)


def take(store: Store, log: Log, things: Sequence[Object], *, begin: bool = False) -> None:
    changes = store.update([Fact(thing.key, thing) for thing in things])
    if begin:
        log.begin(store.digest.value)
    else:
        log.append(changes, digest=store.digest.value, versions=store.versions, now=0.0, unix_nano=1)


def drain(session: Session, now: float) -> list[bytes]:
    sent = []
    while (message := session.next_message(now, 1)) is not None:
        sent.append(message)
        session.on_message(
            pb.WatchRequest(ack=pb.Ack(received_rev=session.sent_rev, applied_rev=session.sent_rev)), now
        )
    return sent


UNUSED = {"error": "no replica sends it", "drain": "no agent sends it"}
REQUESTS: dict[str, Callable[[], list[bytes]]] = {
    "hello": hello,
    "ack": ack,
    "resync_request": resync_request,
    "digests": digests,
    "pending": still_pending,
}


def test_every_kind_of_request_is_covered_and_fits() -> None:
    kinds = {field.name for field in pb.WatchRequest.DESCRIPTOR.oneofs_by_name["message"].fields}
    assert kinds == set(REQUESTS) | (kinds & set(UNUSED))
    for name, make in REQUESTS.items():
        made = make()
        assert {pb.WatchRequest.FromString(one).WhichOneof("message") for one in made} == {name}
        assert max(map(len, made)) < HELLO_BYTES


def test_every_kind_of_response_is_covered_and_fits() -> None:
    kinds = {field.name for field in pb.WatchResponse.DESCRIPTOR.oneofs_by_name["message"].fields}
    sent = stream()
    assert {pb.WatchResponse.FromString(one).WhichOneof("message") for one in sent} == kinds - set(UNUSED)
    assert max(map(len, sent)) < HARD_BYTES


def test_an_agent_that_takes_less_than_one_object_needs_is_refused_with_both_numbers() -> None:
    wrong = problem(pb.Hello(node_name="n", protocol_min=1, protocol_max=1, max_message_bytes=1000))
    assert wrong is not None
    assert wrong[0] == "FAILED_PRECONDITION"
    assert "1000" in wrong[1]
    assert str(HARD_BYTES) in wrong[1]


def test_a_hello_with_a_long_name_is_refused() -> None:
    wrong = problem(pb.Hello(node_name=LONG, protocol_min=1, protocol_max=1))
    assert wrong is not None
    assert "node_name" in wrong[1]


def test_an_ack_with_more_commits_than_agents_send_ends_the_stream() -> None:
    store, log = Store(), Log()
    log.begin(0)
    session = Session(store, log, Snapshots(store, log))
    session.on_message(pb.WatchRequest(hello=pb.Hello(node_name="n", protocol_min=1, protocol_max=1)), 0.0)
    session.on_message(pb.WatchRequest(ack=pb.Ack(commits=[pb.CommitReport()] * (MAX_COMMITS + 1))), 0.0)
    assert session.closed is not None
    assert session.closed.status == "INVALID_ARGUMENT"


def test_an_agent_at_head_that_holds_another_state_is_healed_within_one_heartbeat() -> None:
    session = AgentSession(pb.Hello(node_name="n"), Mirror())
    store, log = Store(), Log()
    take(store, log, [objects.service(1)], begin=True)
    server = Session(store, log, Snapshots(store, log))
    greet(server, session)
    assert session.mirror.digest.value == store.digest.value
    session.mirror.commit(session.mirror.prepare_replace({}))
    beat = drain(server, 50.0)
    answers = [event for one in beat for event in session.received(one, 50.0) if hasattr(event, "message")]
    asked = pb.WatchRequest.FromString(answers[0].message)
    assert asked.resync_request.reason == pb.RESYNC_REASON_DIGEST_MISMATCH
    server.on_message(asked, 50.0)
    for one in drain(server, 50.0):
        session.received(one, 50.0)
    assert session.mirror.digest.value == store.digest.value


def greet(server: Session, agent: AgentSession) -> None:
    server.on_message(pb.WatchRequest.FromString(agent.connected(0.0)), 0.0)
    while (message := server.next_message(0.0, 1)) is not None:
        agent.received(message, 0.0)
