"""The table that the agent's side of a stream moves by: every message leads, in every phase, where the table says."""

from __future__ import annotations

import pytest

from controlplane.snapshot import capture
from deltaplane.snapshot import build
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.events import Event, Send
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.phases import MESSAGES, TRANSITIONS, Phase, Step
from nodeagent.stream.session import Session
from tests.sessions import objects
from tests.sessions.link import Replica

GARBAGE = b"\xff\xff\xff"
OPEN = (Phase.FOLLOWING, Phase.AWAITING, Phase.COLLECTING)


class Stream:
    """An agent's session, and what a replica with one Service sends it."""

    def __init__(self) -> None:
        self.session = Session(pb.Hello(node_name="n1"), Mirror())
        replica = Replica([objects.service(1)])
        state = capture(replica.store, replica.log)
        self.begin, *self.chunks, self.end = build(state).messages
        delta = pb.Delta(epoch=state.epoch, from_rev=state.rev, to_rev=state.rev + 1)
        beat = pb.Heartbeat(head_rev=state.rev, digest=state.digest)
        self.delta = pb.WatchResponse(delta=delta).SerializeToString()
        self.heartbeat = pb.WatchResponse(heartbeat=beat).SerializeToString()
        self.question = pb.WatchResponse(digest_request=pb.DigestRequest(number=1)).SerializeToString()
        self.welcome = pb.WatchResponse(welcome=pb.Welcome(protocol=1, epoch=state.epoch)).SerializeToString()

    def at(self, phase: Phase) -> Stream:
        """Leads the session to the phase."""
        if phase is not Phase.DISCONNECTED:
            self.session.connected(0.0)
        if phase in OPEN:
            self.take(self.welcome)
        if phase in (Phase.COLLECTING, Phase.FOLLOWING):
            self.take(self.begin, *self.chunks)
        if phase is Phase.FOLLOWING:
            self.take(self.end)
        return self

    def take(self, *messages: bytes) -> list[Event]:
        return [event for message in messages for event in self.session.received(message, 0.0)]

    def message(self, step: Step) -> bytes:
        """One that fits where the table allows it."""
        by_step = {Step.DELTA: self.delta, Step.HEARTBEAT: self.heartbeat, Step.BEGIN: self.begin, Step.END: self.end}
        return {**by_step, Step.ASKED: self.question}.get(step, self.chunks[0])


def requests(events: list[Event]) -> list[str | None]:
    sent = (event.message for event in events if isinstance(event, Send))
    return [pb.WatchRequest.FromString(message).WhichOneof("message") for message in sent]


@pytest.mark.parametrize("phase", Phase)
def test_each_phase_is_reached_by_what_replicas_send(phase: Phase) -> None:
    assert Stream().at(phase).session.phase is phase


@pytest.mark.parametrize("step", MESSAGES.values())
@pytest.mark.parametrize("phase", OPEN)
def test_a_message_leads_where_the_table_says_or_a_snapshot_is_asked_for(phase: Phase, step: Step) -> None:
    stream = Stream().at(phase)
    if (phase, step) == (Phase.COLLECTING, Step.CHUNK):
        stream.take(stream.begin)  # none of its chunks has arrived

    events = stream.take(stream.message(step))

    assert stream.session.phase is TRANSITIONS[phase].get(step, Phase.AWAITING)
    assert ("resync_request" in requests(events)) is (step not in TRANSITIONS[phase])


@pytest.mark.parametrize("phase", OPEN)
def test_what_cannot_be_read_is_a_message_that_does_not_fit(phase: Phase) -> None:
    stream = Stream().at(phase)
    assert requests(stream.take(GARBAGE)) == ["resync_request"]
    assert stream.session.phase is TRANSITIONS[phase][Step.MISFIT]


@pytest.mark.parametrize("step", MESSAGES.values())
def test_before_the_welcome_every_message_about_the_state_ends_the_stream(step: Step) -> None:
    stream = Stream().at(Phase.GREETING)
    assert requests(stream.take(stream.message(step))) == []
    assert stream.session.lost(0.0) == f"the first message must be Welcome, not {kind_of(step)}"


def kind_of(step: Step) -> str:
    return next(kind for kind, each in MESSAGES.items() if each is step)


@pytest.mark.parametrize("step", MESSAGES.values())
def test_without_a_stream_nothing_is_taken_in(step: Step) -> None:
    stream = Stream()
    assert stream.take(stream.message(step), stream.welcome, GARBAGE) == []
    assert stream.session.phase is Phase.DISCONNECTED


@pytest.mark.parametrize("phase", Phase)
def test_a_stream_ends_and_opens_from_every_phase(phase: Phase) -> None:
    stream = Stream().at(phase)
    stream.session.disconnected()
    assert stream.session.phase is Phase.DISCONNECTED
    again = Stream().at(phase)
    again.session.connected(0.0)
    assert again.session.phase is Phase.GREETING


def test_a_journal_is_replayed_before_the_first_stream() -> None:
    stream = Stream()
    restored = stream.session.restore([stream.begin, *stream.chunks, stream.end, stream.delta], 0.0)
    assert restored is not None
    assert (restored.rev, stream.session.restored, stream.session.phase) == (
        stream.session.rev, 3 + len(stream.chunks), Phase.DISCONNECTED,
    )  # fmt: skip


def test_every_phase_has_a_row_is_reached_and_can_end() -> None:
    assert {follows for row in TRANSITIONS.values() for follows in row.values()} == set(TRANSITIONS) == set(Phase)
    assert all(row[Step.CLOSE] is Phase.DISCONNECTED for row in TRANSITIONS.values())
    assert {step for row in TRANSITIONS.values() for step in row} == set(Step)
