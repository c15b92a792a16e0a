"""The agent's side of a stream, as a state machine without a socket: messages in; events and answers out.

Called by the agent, which owns it together with the mirror. Time is given to it. `phases` has the transition table,
`reception` the messages about the cluster's state, `intake` what a change must pass before it enters the mirror.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from google.protobuf.message import DecodeError

from deltaplane.codec import MalformedError
from deltaplane.snapshot import ON_REQUEST, State
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.acks import held
from nodeagent.stream.brake import Brake
from nodeagent.stream.clusters import ANOTHER_CLUSTER, another_cluster
from nodeagent.stream.events import Changed, Event, Record, Report, Send, braked
from nodeagent.stream.handshake import PROTOCOL, introduce
from nodeagent.stream.liveness import SILENCE_SECONDS, Liveness
from nodeagent.stream.mirror import Mirror, RejectedError, Touched
from nodeagent.stream.phases import MESSAGES, Phase, Step
from nodeagent.stream.progress import Progress
from nodeagent.stream.reception import Reception
from nodeagent.stream.resync_request import ResyncRequester
from nodeagent.stream.validation import BrakeError, MisfitError

AWAIT_SECONDS = 30.0  # a ResyncRequest that is not answered is sent again
_UNEXPECTED = {Step.DELTA: "a delta came before the snapshot's end", Step.HEARTBEAT: "the snapshot's end did not come"}


class Session(Progress):
    """`identity` says who the agent is; the session adds protocol, encodings and what it resumes from.

    `asked` is called with the reason of each ResyncRequest (a name of ResyncReason without its prefix). `silence`:
    seconds without a message after which the stream is given up.
    """

    def __init__(
        self,
        identity: pb.Hello,
        mirror: Mirror,
        asked: Callable[[str], None] | None = None,
        *,
        silence: float = SILENCE_SECONDS,
        unix_nano: Callable[[], int] | None = None,
    ) -> None:
        super().__init__()
        self.mirror = mirror
        self.brake = Brake(unix_nano or (lambda: 0))
        self.restored = 0  # messages that `restore` took in
        self._identity = identity
        self._requester = ResyncRequester(asked or (lambda _: None))
        self._reception = Reception(self, mirror, self.brake, self._requester, identity.node_name)
        self._liveness = Liveness(silence)
        self._ask_at = inf  # when the ResyncRequest is sent again, monotonic seconds
        self._asked_for = False  # the last replica asks for digests where it needs them: Hello has none

    # ------------------------------------------------------------ the stream opens and ends

    def connected(self, now: float) -> bytes:
        """A stream is open: the Hello to send first."""
        buckets = not (self._requester.whole or self._asked_for)
        message = introduce(self._identity, self.cursor, self.mirror.digest, buckets=buckets)
        self._reset(Step.CLOSE)  # the stream before, should it not have ended
        self._reset(Step.CONNECT)
        self._liveness.begin(now)
        return message

    def disconnected(self) -> None:
        """The stream has ended; the mirror keeps its state."""
        self.told_head = 0
        self._reset(Step.CLOSE)

    def _reset(self, step: Step) -> None:
        self.phases.move(step)
        self.acked_rev = -1
        self._reception.reset()

    def lost(self, now: float) -> str | None:
        """Why this stream should be given up; None: it should not."""
        return None if self.phase is Phase.DISCONNECTED else self._liveness.lost(now)

    def handled(self, now: float) -> None:
        """The last message has been handled: the time of silence starts now."""
        self._liveness.heard(now)

    def excused(self, seconds: float, now: float) -> None:
        """This process did not run for `seconds` until now: that is not the replica's silence."""
        self._liveness.excused(seconds, now)

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait, and where to go (empty: the agent's own list). Returned once."""
        return self._liveness.redirect()

    # ------------------------------------------------------------ messages

    def received(self, data: bytes, now: float) -> list[Event]:
        """Takes one message; `Changed` means that the mirror has changed. Never raises for what a replica sends."""
        if self.phase is Phase.DISCONNECTED or self._liveness.violation:
            return []  # nothing more is taken in from a stream that is given up
        self._liveness.heard(now)
        try:
            return self._take(data, now)
        except MisfitError as misfit:
            return self._resync(misfit, now)
        except BrakeError as error:
            self._reception.reset()
            self._await(Step.HELD, now)
            return [*braked(self.brake.hold(error, now)), Send(held(self.brake.message()))]
        except (MalformedError, RejectedError, DecodeError) as error:
            return self._resync(MisfitError(pb.RESYNC_REASON_MALFORMED, str(error)), now)

    def _take(self, data: bytes, now: float) -> list[Event]:
        response = pb.WatchResponse.FromString(data)
        match response.WhichOneof("message"):
            case "go_away":
                self._liveness.asked_to_go(response.go_away)
                return []
            case "error":
                return [Report("PROTOCOL", f"the replica reports: {response.error.detail}")]
            case "brake_release":
                return self.release(now, response.brake_release.since_unix_nano)
            case "welcome":
                return self._on_welcome(response.welcome, data, now)
            case kind:
                return self._on_state(kind, response, data, now)

    def _on_state(self, kind: str | None, response: pb.WatchResponse, data: bytes, now: float) -> list[Event]:
        """A message about the cluster's state: it is in the mirror before the phase changes."""
        if self.phase is Phase.GREETING:
            return self._violated(f"the first message must be Welcome, not {kind}")
        step = MESSAGES.get(kind or "")
        if step is None:
            return []  # a message of a later protocol
        if not self.phases.allows(step):
            raise MisfitError(pb.RESYNC_REASON_GAP, _UNEXPECTED[step])
        events = self._reception.take(step, response, data, now)
        self.phases.move(step)
        return events

    def release(self, now: float, since: int = 0) -> list[Event]:
        """An operator releases what the brake holds since then (0: any hold): the whole state is requested again."""
        told = braked(self.brake.release(since))
        if not told or not self.welcomed:
            return told
        return [*told, *self._resync(MisfitError(pb.RESYNC_REASON_OPERATOR, "the safety brake was released"), now)]

    def _violated(self, text: str, code: str = "PROTOCOL") -> list[Event]:
        self._liveness.violation = text
        return [Report(code, text)]

    def _on_welcome(self, welcome: pb.Welcome, data: bytes, now: float) -> list[Event]:
        if self.phase is not Phase.GREETING:
            return self._violated("Welcome came twice")
        if welcome.protocol != PROTOCOL:
            return self._violated(f"the replica speaks protocol {welcome.protocol}, this agent {PROTOCOL}")
        if wrong := another_cluster(welcome.cluster_id, self.cluster):
            return self._violated(wrong, ANOTHER_CLUSTER)
        self.offered = welcome.cluster_id
        self.target = self.told_head = welcome.head_rev
        self.acks.configure(welcome)
        self._asked_for = ON_REQUEST in welcome.capabilities and ON_REQUEST in self._identity.capabilities
        if welcome.decision != pb.RESUME_DECISION_DELTA or not self.synced:
            self._await(Step.LACKING, now)
            return []
        self.phases.move(Step.RESUMED)
        self.cluster = self.offered or self.cluster
        events: list[Event] = []
        if welcome.epoch != self.cursor.epoch:
            self.acks.rebase(self.cursor.rebase(welcome, self.acks.applied_rev))
            events.append(Record((data,), whole=False))
        return [*events, Send(self.ack(now))]

    def _resync(self, misfit: MisfitError, now: float) -> list[Event]:
        if self.phase is Phase.GREETING:
            return self._violated(misfit.detail)
        events = self._reception.request(misfit)
        self._await(Step.MISFIT, now)
        return events

    def _await(self, step: Step, now: float) -> None:
        self.phases.move(step)
        self._ask_at = self.brake.ask_at = now + AWAIT_SECONDS

    # ------------------------------------------------------------ what is due

    def tick(self, now: float) -> list[bytes]:
        """What is due by now: an Ack that waited, or a ResyncRequest that was not answered."""
        if self.phase is Phase.AWAITING and now >= (self.brake.ask_at if self.brake.holds else self._ask_at):
            events = self._resync(MisfitError(pb.RESYNC_REASON_GAP, "the snapshot did not come"), now)
            return [event.message for event in events if isinstance(event, Send)]
        ack = self.due(now)
        return [] if ack is None else [ack]

    def pause(self, now: float) -> float:
        """Seconds until `tick` or `lost` may return something because of the messages so far; may be infinite.

        Silence does not count: the client looks for it periodically.
        """
        if self.lost(now) is not None:
            return 0.0
        return self.acks.due_in(now) if self.following else inf

    # ------------------------------------------------------------ the journal

    def restore(self, messages: Iterable[bytes], now: float, cluster: str = "") -> Changed | None:
        """Takes in the journal's messages of this cluster, before the first stream; None if they hold no state.

        Stops at the first message that does not fit; `restored` is how many were taken in.
        """
        self.phases.move(Step.REPLAY)
        self._reception.intake.replaying, self.restored = True, 0
        for number, data in enumerate(messages, 1):
            if not self._restore_one(data, now):
                break
            if self.following:  # not within a snapshot, whose end may never have been written
                self.restored = number
        self._reception.intake.replaying = False
        self._reset(Step.CLOSE)
        if not self.synced:
            return None
        self.cluster = cluster
        everything = Touched(frozenset(self.mirror.services), frozenset(self.mirror.nodes))
        return Changed(self.rev, everything, complete=True)

    def _restore_one(self, data: bytes, now: float) -> bool:
        try:
            response = pb.WatchResponse.FromString(data)
            if response.HasField("welcome"):
                self.cursor.rebase(response.welcome, 0)
            else:
                self._take(data, now)
        except (MisfitError, MalformedError, RejectedError, DecodeError):
            return False
        return self.phase is not Phase.AWAITING

    def capture(self) -> State:
        """The present state, for a journal that has grown too long (`deltaplane.snapshot.build` encodes it)."""
        objects = tuple(self.mirror.objects())
        return State(self.cursor.epoch, self.rev, objects, self.mirror.digest.value, self.cursor.by_kind())
