"""The table that a stream moves by: what it lists happens, what it does not list is refused, and every way ends."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.facts import Fact
from controlplane.session import Limits, Session
from controlplane.snapshot import Snapshots
from controlplane.stream_events import AskedAgain, BroughtUp, Introduced
from controlplane.stream_phases import TRANSITIONS, WELCOMED, Phase, Step
from deltaplane.snapshot import ON_REQUEST, PARTIAL
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2
from tests.sessions import objects
from tests.sessions.link import Replica
from tests.unit.controlplane.test_snapshot_builder import Later

HELLO = pb.WatchRequest(hello=pb.Hello(node_name="n1", protocol_min=1, protocol_max=1))
ACK = pb.WatchRequest(ack=pb.Ack())
RESYNC = pb.WatchRequest(resync_request=pb.ResyncRequest(reason=pb.RESYNC_REASON_GAP))
DRAIN = pb.WatchRequest(drain=pb.Drain(reason="the node is drained"))
DIGESTS = pb.WatchRequest(digests=pb.Digests(number=1))
MESSAGES = {Step.HELLO: HELLO, Step.ACK: ACK, Step.RESYNC: RESYNC, Step.DRAIN: DRAIN, Step.DIGESTS: DIGESTS}


class Stream:
    """A stream of a replica that is behind its agent, and whose snapshots the test builds."""

    def __init__(self) -> None:
        self.replica, self.later = Replica(limits=Limits(hold=5.0)), Later()
        self.replica.put(Fact(objects.service_key(1), objects.service(1), "10"))
        store, log = self.replica.store, self.replica.log
        self.session = Session(store, log, Snapshots(store, log, self.later), limits=self.replica.limits)

    def hello(self, *, asks: bool = False, **resume: Any) -> None:
        hello = pb.Hello(node_name="n1", protocol_min=1, protocol_max=1, resume=pb.Resume(**resume))
        hello.capabilities.extend((PARTIAL, ON_REQUEST) if asks else ())
        self.session.on_message(pb.WatchRequest(hello=hello), 0.0)

    def ahead(self) -> None:
        """Introduces an agent that has seen more than the replica."""
        self.hello(epoch=b"another", versions=[pb.ResourceVersion(kind=objects_pb2.KIND_SERVICE, version="12")])

    def send(self, now: float, most: int = 1000) -> list[str | None]:
        kinds: list[str | None] = []
        while len(kinds) < most and (data := self.session.next_message(now)) is not None:
            kinds.append(pb.WatchResponse.FromString(data).WhichOneof("message"))
        return kinds


def at(phase: Phase) -> Stream:
    """A stream that stands there, by what leads there."""
    stream = Stream()
    if phase is Phase.HOLDING:
        stream.ahead()
    elif phase is Phase.ASKING:
        stream.hello(asks=True, epoch=b"another")
        stream.send(0.0)
    elif phase is not Phase.GREETING:
        stream.hello()
        stream.send(0.0)
    if phase in {Phase.SENDING, Phase.FOLLOWING, Phase.DUE}:
        stream.later.finish()
        stream.send(0.0, 1)
    if phase in {Phase.FOLLOWING, Phase.DUE}:
        stream.send(0.0)
    if phase is Phase.DUE:
        stream.session.on_message(RESYNC, 0.0)
    if phase is Phase.CLOSED:
        stream.session.close("OK", "done")
    return stream


@pytest.mark.parametrize("phase", Phase)
def test_each_phase_is_reached_by_what_agents_and_replicas_do(phase: Phase) -> None:
    assert at(phase).session.phase is phase


@pytest.mark.parametrize(
    ("phase", "step"), [(phase, step) for phase in Phase for step in MESSAGES if phase is not Phase.CLOSED]
)
def test_a_message_leads_where_the_table_says_or_ends_the_stream_as_a_protocol_error(phase: Phase, step: Step) -> None:
    stream = at(phase)

    stream.session.on_message(MESSAGES[step], 0.0)

    late = step is Step.DIGESTS and phase in WELCOMED - {Phase.ASKING}  # an answer that something has overtaken
    assert stream.session.phase is (phase if late else TRANSITIONS[phase].get(step, Phase.CLOSED))
    refused = stream.session.closed is not None and stream.session.closed.status == "INVALID_ARGUMENT"
    assert refused is (step not in TRANSITIONS[phase] and not late)


@pytest.mark.parametrize("step", MESSAGES)
def test_a_stream_that_is_closed_takes_nothing(step: Step) -> None:
    stream = at(Phase.CLOSED)
    assert stream.session.on_message(MESSAGES[step], 0.0) == []
    assert stream.session.closed is not None
    assert stream.session.closed.detail == "done"


def reachable(start: Phase) -> set[Phase]:
    found, waiting = {start}, [start]
    while waiting:
        new = set(TRANSITIONS[waiting.pop()].values()) - found
        found |= new
        waiting += new
    return found


def test_every_phase_has_a_row_is_reached_and_can_end() -> None:
    assert set(TRANSITIONS) == reachable(Phase.GREETING) == set(Phase)
    assert all(Phase.CLOSED in reachable(phase) for phase in Phase)
    assert {step for row in TRANSITIONS.values() for step in row} == set(Step)


def test_a_stream_goes_through_its_phases_and_says_what_happened() -> None:
    stream = Stream()
    session, phases = stream.session, []
    said = [session.on_message(HELLO, 0.0)]
    phases.append(session.phase)
    assert stream.send(0.0) == ["welcome"]
    phases.append(session.phase)
    said.append(session.happened())
    stream.later.finish()
    assert stream.send(0.0, 1) == ["snapshot_begin"]
    phases.append(session.phase)
    said.append(session.happened())
    assert stream.send(0.0) == ["snapshot_chunk", "snapshot_end"]
    phases.append(session.phase)
    said.append(session.on_message(RESYNC, 0.0))
    phases.append(session.phase)

    assert phases == [Phase.HOLDING, Phase.BUILDING, Phase.SENDING, Phase.FOLLOWING, Phase.DUE]
    introduced, nothing, (how,), asked = said
    assert (introduced, nothing, asked) == ([Introduced()], [], [AskedAgain("GAP")])
    assert isinstance(how, BroughtUp)
    assert (how.reason, how.extent, how.size > 0) == ("CONNECTED", "whole", True)
    assert session.happened() == []


def test_a_snapshot_that_is_asked_for_before_the_welcome_follows_it() -> None:
    stream = Stream()
    versions = [pb.ResourceVersion(kind=objects_pb2.KIND_SERVICE, version="12")]
    stream.hello(epoch=b"another", state_digest=stream.replica.store.digest.value, versions=versions)
    stream.session.on_message(RESYNC, 1.0)

    assert stream.send(1.0) == []
    assert stream.send(5.0) == ["welcome"]
    assert stream.session.phase is Phase.BUILDING


def test_a_stream_that_the_log_has_left_behind_needs_a_snapshot() -> None:
    stream = at(Phase.FOLLOWING)
    stream.replica.put(Fact(objects.service_key(2), objects.service(2)))
    stream.replica.log.expire(1e9)

    assert stream.send(0.0) == []

    assert stream.session.phase is Phase.BUILDING
    assert len(stream.later.asked) == 1
