"""The agent's side of a stream, as a state machine without a socket: messages in; events and answers out.

Called by the agent, which owns it together with the mirror; it decides what enters the mirror. Time is given to it.

    DISCONNECTED --connected--> GREETING --Welcome--> FOLLOWING (DELTA) or AWAITING (SNAPSHOT)
    FOLLOWING --Delta that fits--> FOLLOWING
    any of the last three --SnapshotBegin--> COLLECTING --SnapshotEnd that matches--> FOLLOWING
    any of the last three --anything that does not fit--> AWAITING, and a ResyncRequest goes out

A change is checked whole before any of it is taken in: decoding, keys, patch bases, and the digest of the state it
leads to. What fails a check leaves the mirror, and so the kernel, at the last good state (S12). Absence removes an
object only at a SnapshotEnd whose counts and digest match (S6); of a partial snapshot, only of its own buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf

from google.protobuf.message import DecodeError

from deltaplane.codec import MalformedError, decode_ops
from deltaplane.snapshot import State
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.acks import held
from nodeagent.stream.brake import Brake
from nodeagent.stream.clusters import another_cluster
from nodeagent.stream.events import Changed, Event, Record, Report, Send, braked
from nodeagent.stream.handshake import PROTOCOL, introduce
from nodeagent.stream.liveness import SILENCE_SECONDS, Liveness
from nodeagent.stream.mirror import Mirror, Plan, RejectedError, Touched
from nodeagent.stream.resync_request import Asking
from nodeagent.stream.snapshot_assembler import Collector
from nodeagent.stream.standing import Phase, Standing
from nodeagent.stream.validation import BrakeError, MisfitError, check_digest

AWAIT_SECONDS = 30.0  # a resync that is not answered is asked for again


class Session(Standing):
    """The stream's state. `hello` says who the agent is; protocol, encodings and resume are filled in here.

    `asked` is called with the reason (a name of ResyncReason without its prefix) whenever a resync is asked for.
    `silence`: seconds without a message after which the stream is given up.
    """

    def __init__(
        self,
        hello: pb.Hello,
        mirror: Mirror,
        asked: Callable[[str], None] | None = None,
        *,
        silence: float = SILENCE_SECONDS,
        unix_nano: Callable[[], int] | None = None,
    ) -> None:
        self.mirror = mirror
        self._hello = hello
        super().__init__()
        self._comparable = True  # False while the state lacks what this agent could not understand
        self.brake = Brake(unix_nano or (lambda: 0))
        self._asking = Asking(asked or (lambda _: None))
        self._restoring = False  # the journal is read: what it has was taken in once
        self._ask_at = inf  # for a state that was asked for and did not come
        self._acked_rev = -1  # received_rev of the last Ack of this stream
        self._missed = 0  # heartbeats in a row that speak of revisions that should have come
        self._liveness = Liveness(silence)
        self.cluster = ""  # whose state this is, as far as is known; Welcome.cluster_id
        self._offered = ""  # whose the replica's is
        self.restored = 0  # messages that `restore` took in

    # ------------------------------------------------------------ the stream comes and goes

    def connected(self, now: float) -> bytes:
        """A stream is open: the Hello to send first."""
        message = introduce(self._hello, self.position, self.mirror.digest, partial=not self._asking.whole)
        self._reset(Phase.GREETING)
        self._liveness.begin(now)
        return message

    def disconnected(self) -> None:
        """The stream is gone; what is held stays."""
        self._told_head = 0
        self._reset(Phase.DISCONNECTED)

    def _reset(self, phase: Phase) -> None:
        self._phase = phase
        self._collector = None
        self._acked_rev = -1
        self._missed = 0

    def lost(self, now: float) -> str | None:
        """Why this stream should be given up, None if it should not."""
        return None if self._phase is Phase.DISCONNECTED else self._liveness.lost(now)

    def handled(self, now: float) -> None:
        """What was received last is dealt with: silence is counted from now."""
        self._liveness.heard(now)

    def excused(self, seconds: float, now: float) -> None:
        """This process did not run for `seconds` until now: that is no silence."""
        self._liveness.excused(seconds, now)

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait, and where to go (empty: the agent's own list). Told once."""
        return self._liveness.redirect()

    # ------------------------------------------------------------ messages

    def received(self, data: bytes, now: float) -> list[Event]:
        """Takes one message; `Changed` means that the mirror has moved. Never raises for what a replica says."""
        if self._phase is Phase.DISCONNECTED or self._liveness.violation:
            return []  # of a stream that is given up nothing more is taken in
        self._liveness.heard(now)
        try:
            return self._take(data, now)
        except MisfitError as misfit:
            return self._resync(misfit, now)
        except BrakeError as error:
            self._await(now)
            return [*braked(self.brake.hold(error, now)), Send(held(self.brake.message()))]
        except (MalformedError, RejectedError, DecodeError) as error:
            return self._resync(MisfitError(pb.RESYNC_REASON_MALFORMED, str(error)), now)

    def _take(self, data: bytes, now: float) -> list[Event]:
        response = pb.WatchResponse.FromString(data)
        kind = response.WhichOneof("message")
        if kind == "delta":
            return self._on_delta(response.delta, data, now)
        if kind == "go_away":
            self._liveness.asked_to_go(response.go_away)
            return []
        if kind == "error":
            return [Report("PROTOCOL", f"the replica reports: {response.error.detail}")]
        if kind == "brake_release":
            return self.release(now, response.brake_release.since_unix_nano)
        if kind == "welcome":
            return self._on_welcome(response.welcome, data, now)
        if self._phase is Phase.GREETING:
            return self._violated(f"the first message must be Welcome, not {kind}")
        if kind == "heartbeat":
            return self._on_heartbeat(response.heartbeat, now)
        return self._on_snapshot(response, kind, data)

    def release(self, now: float, since: int = 0) -> list[Event]:
        """An operator lets in what the brake holds since then (0: ever): the whole state is asked for, and taken."""
        told = braked(self.brake.release(since))
        if not told or not self.welcomed:
            return told
        return [*told, *self._resync(MisfitError(pb.RESYNC_REASON_OPERATOR, "the safety brake was released"), now)]

    def _violated(self, text: str) -> list[Event]:
        self._liveness.violation = text
        return [Report("PROTOCOL", text)]

    def _on_welcome(self, welcome: pb.Welcome, data: bytes, now: float) -> list[Event]:
        if self._phase is not Phase.GREETING:
            return self._violated("Welcome came twice")
        if welcome.protocol != PROTOCOL:
            return self._violated(f"the replica speaks protocol {welcome.protocol}, this agent {PROTOCOL}")
        if wrong := another_cluster(welcome.cluster_id, self.cluster):
            return self._violated(wrong)
        self._offered = welcome.cluster_id
        self._target = self._told_head = welcome.head_rev
        self._acks.min_interval = welcome.min_ack_interval_ms / 1000
        self._acks.window = welcome.ack_window or self._acks.window
        if welcome.decision != pb.RESUME_DECISION_DELTA or not self.synced:
            self._await(now)
            return []
        self._phase = Phase.FOLLOWING
        self.cluster = self._offered or self.cluster
        events: list[Event] = []
        if welcome.epoch != self.position.epoch:
            self._acks.rebase(self.position.rebase(welcome, self._acks.applied_rev))
            events.append(Record((data,), whole=False))
        return [*events, Send(self._ack(now))]

    def _on_delta(self, delta: pb.Delta, data: bytes, now: float) -> list[Event]:
        if self._phase is Phase.AWAITING:
            self.brake.saw(delta, self.mirror.services, now)
            return []  # sent before the replica read our request, or after what the brake holds
        if self._phase is Phase.GREETING:
            return self._violated("the first message must be Welcome, not delta")
        if self._phase is Phase.COLLECTING:
            raise MisfitError(pb.RESYNC_REASON_GAP, "a delta came before the snapshot's end")
        self.position.expect(delta)
        plan = self.mirror.prepare(decode_ops(delta.ops))
        self._comparable = self._comparable and not plan.unsupported
        if delta.HasField("digest") and self._comparable:
            check_digest(plan.digest, delta.digest)
        if not self._restoring:
            self.brake.check(plan, len(self.mirror.services), delta.announced_removals)
        return self._follow(delta, plan, data)

    def _follow(self, delta: pb.Delta, plan: Plan, data: bytes) -> list[Event]:
        touched = self.mirror.commit(plan)
        self.position.follow(delta)
        self._missed = 0
        causes = tuple(delta.causes)
        self._acks.received(awaited=delta.ack_now or any(cause.traceparent for cause in causes))
        events: list[Event] = [Changed(self.rev, touched, complete=False, causes=causes), Record((data,), whole=False)]
        return [*events, *self._unsupported(plan.unsupported)]

    def _unsupported(self, number: int) -> list[Event]:
        self._acks.unsupported_ops += number
        return [Report("UNSUPPORTED", f"{number} changes of a kind this agent does not know")] if number else []

    def _on_snapshot(self, response: pb.WatchResponse, kind: str | None, data: bytes) -> list[Event]:
        if kind == "snapshot_begin":
            self._collector = Collector(response.snapshot_begin, data)
            self._phase = Phase.COLLECTING
        elif self._collector is None:
            return []  # the rest of a snapshot that was given up, or a message of a later protocol
        elif kind == "snapshot_chunk":
            self._collector.add(response.snapshot_chunk, data)
        elif kind == "snapshot_end":
            self._collector.end(response.snapshot_end, data)
            return self._sweep(self._collector, response.snapshot_end)
        return []

    def _sweep(self, collector: Collector, end: pb.SnapshotEnd) -> list[Event]:
        plan, whole = self.mirror.prepare_replace(collector.objects, collector.buckets), collector.buckets is None
        self._comparable = not collector.unsupported
        if self._comparable:
            check_digest(plan.digest, end.digest)
        if not self._restoring:
            self.brake.check(plan, len(self.mirror.services))
        told = braked(self.brake.passed())
        touched = self.mirror.commit(plan)
        self.position.adopt(collector.begin.epoch, end)
        self.cluster = self._offered or self.cluster
        self._asking.taken(collector)
        self._collector, self._missed = None, 0
        self._phase = Phase.FOLLOWING
        self._acks.rebase(0)
        self._acks.unsupported_ops = 0
        events = Changed(self.rev, touched, complete=whole), Record(tuple(collector.messages), whole=whole)
        return [*told, *events, *self._unsupported(collector.unsupported)]

    def _on_heartbeat(self, heartbeat: pb.Heartbeat, now: float) -> list[Event]:
        if self._phase is Phase.COLLECTING:
            raise MisfitError(pb.RESYNC_REASON_GAP, "the snapshot's end did not come")
        if self._phase is not Phase.FOLLOWING:
            return []
        self._told_head = heartbeat.head_rev
        self._target = min(self._target, self.rev)  # it has nothing more to send, or waits for an Ack
        told = self._acked_rev == self.rev == self._acks.applied_rev
        self._missed = self._missed + 1 if told and heartbeat.head_rev > self.rev else 0
        if self._missed > 1:
            detail = f"revision {heartbeat.head_rev} was announced twice, but nothing came after {self.rev}"
            raise MisfitError(pb.RESYNC_REASON_GAP, detail)
        if heartbeat.HasField("digest") and heartbeat.head_rev == self.rev and self._comparable:
            check_digest(self.mirror.digest.value, heartbeat.digest)
        return [*(braked(self.brake.passed()) if heartbeat.head_rev <= self.rev else ()), Send(self._ack(now))]

    def _resync(self, misfit: MisfitError, now: float) -> list[Event]:
        if self._phase is Phase.GREETING:
            return self._violated(misfit.detail)
        events = self._asking.ask(misfit, self._collector, self.mirror.digest)
        self._await(now)
        return events

    def _await(self, now: float) -> None:
        self._phase = Phase.AWAITING
        self._collector = None
        self._ask_at = self.brake.ask_at = now + AWAIT_SECONDS

    # ------------------------------------------------------------ acknowledging

    def committed(
        self,
        rev: int,
        now: float,
        *,
        report: pb.CommitReport | None = None,
        failed: Sequence[pb.ObjectFailure] = (),
        unix_nano: int = 0,
    ) -> bytes | None:
        """The kernel has everything up to `rev` of a `Changed`, apart from `failed` (all that fail at present).

        Returns an Ack if one should go out at once; otherwise `tick` returns it when it is due. `report` is filled in
        by the caller except for `ack_delay_ns`.
        """
        rev = self.position.translate(rev)
        if report is not None:
            report.to_rev = rev
        self._acks.committed(rev, now, report=report, failed=failed, unix_nano=unix_nano)
        return self._due(now)

    def tick(self, now: float) -> list[bytes]:
        """What is due by now: an Ack that waited, or a request that was not answered."""
        if self._phase is Phase.AWAITING and now >= (self.brake.ask_at if self.brake.holds else self._ask_at):
            events = self._resync(MisfitError(pb.RESYNC_REASON_GAP, "the snapshot did not come"), now)
            return [event.message for event in events if isinstance(event, Send)]
        ack = self._due(now)
        return [] if ack is None else [ack]

    def pause(self, now: float) -> float:
        """Seconds until `tick` or `lost` may have something to say because of what came in so far; infinite if neither.

        Silence is not among it: for that, somebody looks now and then.
        """
        if self.lost(now) is not None:
            return 0.0
        return self._acks.due_in(now) if self._phase is Phase.FOLLOWING else inf

    def _due(self, now: float) -> bytes | None:
        """Only while following: until then the replica and this agent do not mean the same revisions."""
        return self._ack(now) if self._phase is Phase.FOLLOWING and self._acks.due(now) else None

    def _ack(self, now: float) -> bytes:
        self._acked_rev = self.rev
        return self._acks.make(self.rev, now)

    # ------------------------------------------------------------ the journal

    def restore(self, messages: Iterable[bytes], now: float, cluster: str = "") -> Changed | None:
        """Takes in what the journal kept of this cluster, before the first stream; None if there was nothing usable.

        Stops where the messages stop fitting, at the last good state; `restored` is how many were taken in.
        """
        self._phase, self._restoring = Phase.AWAITING, True
        self.restored = 0
        for number, data in enumerate(messages, 1):
            if not self._restore_one(data, now):
                break
            if self._phase is Phase.FOLLOWING:  # not within a snapshot, whose end may never have been written
                self.restored = number
        self._restoring = False
        self._reset(Phase.DISCONNECTED)
        if not self.synced:
            return None
        self.cluster = cluster
        everything = Touched(frozenset(self.mirror.services), frozenset(self.mirror.nodes))
        return Changed(self.rev, everything, complete=True)

    def _restore_one(self, data: bytes, now: float) -> bool:
        try:
            response = pb.WatchResponse.FromString(data)
            if response.HasField("welcome"):
                self.position.rebase(response.welcome, 0)
            else:
                self._take(data, now)
        except (MisfitError, MalformedError, RejectedError, DecodeError):
            return False
        return self._phase is not Phase.AWAITING

    def capture(self) -> State:
        """The present state, for a journal that has grown too long (`deltaplane.snapshot.build` encodes it)."""
        objects = tuple(self.mirror.objects())
        return State(self.position.epoch, self.rev, objects, self.mirror.digest.value, self.position.by_kind())
