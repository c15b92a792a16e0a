"""What a stream gets after its Welcome: a snapshot if it needs one, then deltas, and heartbeats when it is idle.

Deltas lead from `sent_rev` to head. If the log does not reach back that far, the stream gets a snapshot. It is partial
where the agent's digests are known, by its own message or by questions, and not too much differs. `sent_rev` never
decreases within a stream, so a snapshot never shows an agent an older state than it had.

The session owns it and shares the stream's phase with it. Callers pass the time, in monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from controlplane.catchup import CONNECTED, LEFT_BEHIND, CatchUp, resumed
from controlplane.deltas import Deltas
from controlplane.inflight import Applied
from controlplane.log import Log
from controlplane.resume import Start
from controlplane.snapshot import Snapshots
from controlplane.stream_events import BroughtUp
from controlplane.stream_limits import Limits
from controlplane.stream_phases import Phase, Position, Step
from deltaplane.v1 import delta_pb2 as pb


class Feed:
    """Calls `told` when it is decided how the agent's state is brought up, and `wake` when `next` has more."""

    def __init__(
        self,
        log: Log,
        snapshots: Snapshots,
        limits: Limits,
        position: Position,
        *,
        told: Callable[[BroughtUp], None],
        wake: Callable[[], None],
    ) -> None:
        self.heartbeat_at = 0.0
        self._log, self._limits, self._position, self._told = log, limits, position, told
        self._encoding = pb.ENCODING_IDENTITY
        self._progress_at = 0.0  # when the agent last progressed, or got its first delta after a pause
        self._answer_by = 0.0  # while ASKING
        self._asks = False  # the agent can be asked for digests
        self._resync_at = float("-inf")  # when the agent's last requested snapshot was due
        self._catch_up = CatchUp(snapshots, wake)
        self._deltas = Deltas(log, limits)

    @property
    def sent_rev(self) -> int:
        """The last revision that was sent."""
        return self._deltas.sent_rev

    @property
    def pending(self) -> bool:
        """Whether `next` may have a message before `deadline`."""
        return self._position.state is not Phase.FOLLOWING or self._deltas.pending or not self._deltas.reachable

    @property
    def full(self) -> bool:
        """Whether nothing more is sent before an Ack."""
        return self._deltas.full

    def start(self, start: Start, held: bytes, encodings: Iterable[int], now: float, *, asks: bool = False) -> None:
        """Begins after the Welcome. `held`: the bucket digests of an agent that takes partial snapshots, else empty.

        `asks`: the agent can be asked for digests.
        """
        self._asks = asks
        self._encoding = pb.ENCODING_ZLIB if pb.ENCODING_ZLIB in encodings else pb.ENCODING_IDENTITY
        self._deltas.start(start.rev)
        if start.decision == pb.RESUME_DECISION_DELTA:
            self._told(resumed(start.reason, equal=start.rev == self._log.head))
        else:
            some = start.decision == pb.RESUME_DECISION_BUCKETS  # else it has nothing that could be compared
            self._catch_up.want(0.0, CONNECTED, held, asks=asks and some)
        self.heartbeat_at = now + self._limits.heartbeat
        self._progress_at = now
        self._position.move(Step.LACKING if self._catch_up.wanted else Step.RESUMED)

    def ask(self, reason: str, held: bytes, now: float) -> None:
        """Answers a ResyncRequest by a snapshot, `resync_pause` seconds after the previous one at the earliest.

        One that is still due stays due: whoever asks often waits no longer.
        """
        if not self._catch_up.wanted:
            self._resync_at = max(now, self._resync_at + self._limits.resync_pause)
        self._catch_up.want(self._resync_at, reason, held, asks=self._asks and bool(held))

    def awaits(self, digests: pb.Digests) -> bool:
        """Whether this answers the question that is open."""
        return self._catch_up.inquiry.awaits(digests)

    def answered(self, digests: pb.Digests) -> None:
        """Takes the answer that it awaits."""
        self._catch_up.inquiry.take(digests)

    def land(self, applied_rev: int, commits: Sequence[pb.CommitReport]) -> list[Applied]:
        """Takes an Ack; returns what each reported commit covers, oldest first."""
        return self._deltas.land(applied_rev, commits)

    def progressed(self, now: float) -> None:
        """The agent has applied more than before."""
        self._progress_at = now

    def stalled(self, now: float) -> bool:
        """Whether the last progress is longer ago than the limit."""
        return now - self._progress_at > self._limits.stalled

    def deadline(self) -> float:
        """When to ask `next` again even if nothing happens."""
        match self._position.state:
            case Phase.DUE:
                return min(self.heartbeat_at, self._catch_up.at)
            case Phase.ASKING:
                return min(self.heartbeat_at, self._answer_by)
        return self.heartbeat_at

    def give_up(self) -> None:
        """Drops what was to be sent, and whom it tells: the stream has ended, and its objects free each other."""
        self._catch_up.give_up()
        self._told = _nobody

    def next(self, now: float, unix_nano: int) -> bytes | None:
        """The next WatchResponse. None: nothing is due, or the window is full."""
        message = self._next(now, unix_nano) or self._heartbeat(now, unix_nano)
        if message is not None:
            self.heartbeat_at = now + self._limits.heartbeat
        return message

    def _next(self, now: float, unix_nano: int) -> bytes | None:
        if self._position.state is Phase.FOLLOWING:
            if self._deltas.reachable:
                return self._next_delta(now, unix_nano)
            self._position.move(Step.LEFT_BEHIND)  # too slow: the log no longer has what comes next
            self._catch_up.want(0.0, LEFT_BEHIND, asks=self._asks)
        if self._position.state is Phase.ASKING and now >= self._answer_by:
            self._position.move(Step.UNANSWERED)
            self._catch_up.inquiry.unanswered()
        if self._position.state is Phase.DUE and now >= self._catch_up.at:
            question = self._catch_up.inquiry.question()
            if question is not None:
                return self._put(question, now)
        if self._position.state in {Phase.DUE, Phase.BUILDING} and now >= self._catch_up.at:
            self._begin(now)
        if self._position.state is Phase.SENDING:
            return self._next_of_snapshot()
        return None

    def _put(self, question: pb.DigestRequest, now: float) -> bytes:
        self._position.move(Step.ASKED)
        self._answer_by = now + self._limits.answer
        return pb.WatchResponse(digest_request=question).SerializeToString()

    def _begin(self, now: float) -> None:
        begun = self._catch_up.begin(self._encoding, self.sent_rev)
        if begun is None:
            self._position.move(Step.AWAITED)
            return
        rev, how = begun
        self._position.move(Step.BEGUN)
        self._deltas.start(rev)
        self._progress_at = now + self._limits.stalled  # a cold load may take twice as long
        self._told(how)

    def _next_of_snapshot(self) -> bytes:
        message = self._catch_up.next()
        if not self._catch_up.sending:
            self._position.move(Step.ENDED)
        return message

    def _next_delta(self, now: float, unix_nano: int) -> bytes | None:
        idle, message = self._deltas.idle, self._deltas.next(unix_nano)
        if idle and message is not None:
            self._progress_at = max(self._progress_at, now)
        return message

    def _heartbeat(self, now: float, unix_nano: int) -> bytes | None:
        if now < self.heartbeat_at:
            return None
        beat = pb.Heartbeat(head_rev=self._log.head, server_time_unix_nano=unix_nano, digest=self._log.digest)
        return pb.WatchResponse(heartbeat=beat).SerializeToString()


def _nobody(_: BroughtUp) -> None:
    """After the end of a stream there is nothing to tell."""
