"""One agent's stream as a state machine without a socket: it takes messages and returns events and messages to send.

The server has one session per stream. Its reader passes in every WatchRequest. Its writer asks for the next message
until there is none, and then waits for a new revision, for `wake`, or until `deadline`. Callers pass the time.

`controlplane.stream_phases` has the phases and transitions as data. The session holds an agent that has seen newer API
versions than this replica (a failover to a replica that lags) until the replica has caught up, for 5 s at most.
`controlplane.feed` decides what the stream gets after its Welcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from msgspec import Struct

from controlplane.acked import Acked
from controlplane.feed import Feed
from controlplane.log import Log
from controlplane.resume import ack_problem, answers, behind, decide, held, pending_problem, problem, reason_of
from controlplane.snapshot import Snapshots
from controlplane.store import Store
from controlplane.stream_events import AskedAgain, Braked, BroughtUp, Event, Held, Introduced
from controlplane.stream_limits import Limits
from controlplane.stream_phases import LACKING, TRANSITIONS, WELCOMED, Phase, Step
from controlplane.welcome import Replica, welcome
from deltaplane.states import Machine
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2

__all__ = ["Closed", "Limits", "Session"]
_MESSAGES = {
    "hello": Step.HELLO,
    "ack": Step.ACK,
    "pending": Step.PENDING,
    "resync_request": Step.RESYNC,
    "drain": Step.DRAIN,
    "digests": Step.DIGESTS,
}


class Closed(Struct, frozen=True):
    """Why the stream ends: a gRPC status name and a line for the operator."""

    status: str
    detail: str


class Session:
    """One stream. Calls `wake` when there is something to send that no new revision announces.

    `streams`: how many streams this replica has, or has soon; Acks are seldom where there are many.
    `listens`: whether anybody takes the commits that Acks report (`Applied`).
    """

    def __init__(
        self,
        store: Store,
        log: Log,
        snapshots: Snapshots,
        *,
        server_id: str = "",
        cluster_id: Callable[[], str] = lambda: "",
        ready: Callable[[], bool] = lambda: True,
        limits: Limits | None = None,
        streams: Callable[[], int] = lambda: 1,
        listens: Callable[[], bool] = lambda: True,
        wake: Callable[[], None] = lambda: None,
        peer: str = "",
    ) -> None:
        self.closed: Closed | None = None
        self.hello = pb.Hello()
        self.peer = peer
        self.acked = Acked()
        self.since = inf  # when its Hello came, monotonic seconds
        self.acked_at = 0.0  # likewise its last Ack; 0: none yet
        self.heard_at = 0.0  # likewise its last message
        self.sent_away = False  # it has been told to go to another replica
        self.brought_up = ""  # how the state was brought up last, for an operator
        self._replica = Replica(store, log, server_id, cluster_id, ready, streams)
        self._limits = limits or Limits()
        self._wake, self._listens = wake, listens
        self._over: Callable[[], None] | None = None
        self._held = False  # the Welcome waited, or waits, for this replica to catch up
        self._epoch: bytes | None = None  # of the history that the stream follows; None before the Welcome
        self._until = inf  # when GREETING or HOLDING ends; `next_message` starts the time of GREETING
        self._outbox: list[bytes] = []  # seldom more than one: a deque takes 0.6 KiB for each stream
        self._happened: list[Event] = []
        self._position = Machine(TRANSITIONS)
        self._feed = Feed(log, snapshots, self._limits, self._position, told=self._settled, wake=self.wake)

    @property
    def phase(self) -> Phase:
        """The phase of the stream."""
        return self._position.state

    @property
    def node_name(self) -> str:
        """Empty until the agent has introduced itself."""
        return self.hello.node_name

    @property
    def epoch(self) -> bytes | None:
        """Of the history that the stream follows; None before the Welcome."""
        return self._epoch

    @property
    def sent_rev(self) -> int:
        """The last revision that was sent."""
        return self._feed.sent_rev

    @property
    def applied_rev(self) -> int:
        """The revision that the node's kernel has."""
        return self.acked.applied_rev

    @property
    def brake(self) -> pb.Brake | None:
        """What the agent's safety brake holds."""
        return self.acked.brake

    def happened(self) -> list[Event]:
        """The events since the last call, oldest first."""
        happened, self._happened = self._happened, []
        return happened

    def wakes(self, wake: Callable[[], None]) -> None:
        """Calls `wake` from now on when there is something to send that no new revision announces."""
        self._wake = wake

    def ends(self, over: Callable[[], None]) -> None:
        """Calls `over` when the session is closed."""
        self._over = over

    def wake(self) -> None:
        """There is something to send."""
        self._wake()

    def _settled(self, how: BroughtUp) -> None:
        self.brought_up = str(how)
        self._happened.append(how)

    # ------------------------------------------------------------ in

    def on_message(self, request: pb.WatchRequest, now: float) -> list[Event]:
        """Takes one request and returns `happened()`. A protocol error closes the session."""
        self.heard_at = now
        step = _MESSAGES.get(request.WhichOneof("message") or "")
        if self.closed is not None or step is None:
            return []  # a message of a later protocol is ignored
        if step is Step.DIGESTS and self.phase in WELCOMED and not self._feed.awaits(request.digests):
            return []  # the answer to a question that a ResyncRequest, or the time, has overtaken
        wrong = self._wrong(step, request)
        if wrong is not None:
            self.close(*wrong)
        elif step is Step.DRAIN:
            self._end(step, "OK", f"the agent left: {request.drain.reason}")
        else:
            self._position.move(step)
            self._take(step, request, now)
        return self.happened()

    def _wrong(self, step: Step, request: pb.WatchRequest) -> tuple[str, str] | None:
        """Why this message is a protocol error: a gRPC status name and a line for the operator. None: it is not."""
        if step is Step.ACK and self._position.allows(step):
            return ack_problem(request.ack, self.sent_rev)
        if step is Step.PENDING and self._position.allows(step):
            return pending_problem(request.pending, self.sent_rev)
        if step is Step.HELLO and not self._replica.ready():  # S1
            return "UNAVAILABLE", "this replica has not yet seen the whole cluster state; try again or try another"
        if not self._position.allows(step):
            kind = request.WhichOneof("message")
            twice, first = "Hello came twice on one stream", f"the first message must be Hello, not {kind}"
            return "INVALID_ARGUMENT", twice if step is Step.HELLO else first
        return problem(request.hello) if step is Step.HELLO else None

    def _take(self, step: Step, request: pb.WatchRequest, now: float) -> None:
        if step is Step.ACK:
            self._on_ack(request.ack, now)
        elif step is Step.PENDING:
            self.acked = self.acked.waiting(request.pending, now)
        elif step is Step.HELLO:
            self.hello, self.since = request.hello, now
            self._held = self._behind()
            self._until = now + (self._limits.hold if self._held else 0.0)
            self._happened.append(Introduced())
        elif step is Step.DIGESTS:
            self._feed.answered(request.digests)
        else:
            self._on_resync(request.resync_request, now)

    def _on_ack(self, ack: pb.Ack, now: float) -> None:
        before, self.acked, self.acked_at = self.acked, self.acked.after(ack), now
        if self.brake is not None:
            self._happened += [Braked(self.brake)] if before.brake is None else []
            return
        if self.applied_rev > before.applied_rev or not before.confirmed:
            self._feed.progressed(now)
        self._happened += self._feed.land(self.applied_rev, ack.commits if self._listens() else ())

    def _on_resync(self, request: pb.ResyncRequest, now: float) -> None:
        reason = reason_of(request)
        self._feed.ask(reason, held(self.hello, request.bucket_digests), now)
        self._happened.append(AskedAgain(reason))

    def close(self, status: str, detail: str) -> None:
        """Ends the session with this gRPC status; only the first call counts."""
        if self.closed is None:
            self._end(Step.CLOSE, status, detail)

    def _end(self, step: Step, status: str, detail: str) -> None:
        self._position.move(step)
        self.closed = Closed(status, detail)
        self._feed.give_up()
        if self._over is not None:
            self._over()
        self._wake()

    # ------------------------------------------------------------ out

    def go_away(
        self, reason: str, *, retry_after_ms: int = 0, targets: Sequence[str] = (), deadline_ms: int = 0
    ) -> None:
        """Asks the agent to change to another replica. The stream continues until the agent leaves."""
        self.sent_away = True
        message = pb.GoAway(reason=reason, retry_after_ms=retry_after_ms, targets=targets, deadline_ms=deadline_ms)
        self._say(pb.WatchResponse(go_away=message))

    def release_brake(self) -> bool:
        """Tells the agent to apply what its safety brake holds. Returns False if it holds nothing."""
        if self.closed is not None or self.brake is None:
            return False
        release = pb.BrakeRelease(since_unix_nano=self.brake.since_unix_nano)
        self._say(pb.WatchResponse(brake_release=release))
        return True

    def resync(self, now: float) -> bool:
        """Sends the whole state, as if the agent had asked for it. Returns False if the stream is not open for it."""
        if self.phase not in WELCOMED:
            return False
        self._position.move(Step.RESYNC)
        self._feed.ask("OPERATOR", b"", now)
        self._wake()
        return True

    def _say(self, message: pb.WatchResponse) -> None:
        self._outbox.append(message.SerializeToString())
        self._wake()

    def next_message(self, now: float, unix_nano: int = 0) -> bytes | None:
        """The next WatchResponse to write. None: there is nothing to send now."""
        self._check(now)
        if self.phase is Phase.HOLDING and (now >= self._until or not self._behind()):
            self._welcome(now, unix_nano)
        if self._outbox:
            return self._outbox.pop(0)  # also after `close`: the agent still gets its GoAway
        return self._feed.next(now, unix_nano) if self.phase in WELCOMED else None

    @property
    def pending(self) -> bool:
        """Whether `next_message` may have something before `deadline`, even if nothing more happens."""
        return self.closed is not None or bool(self._outbox) or self.phase not in WELCOMED or self._feed.pending

    def deadline(self) -> float:
        """When to ask `next_message` again even if nothing happens."""
        return self._feed.deadline() if self.phase in WELCOMED else self._until

    def _check(self, now: float) -> None:
        """Closes the stream if its history has ended, or if no Hello came in time."""
        if self._epoch != self._replica.log.epoch and self._epoch is not None:
            self.close("UNAVAILABLE", "this replica has begun another history: connect again")
        if self.phase is not Phase.GREETING:
            return
        if self._until == inf:
            self._until = now + self._limits.hello
        elif now >= self._until:
            self.close("DEADLINE_EXCEEDED", f"no Hello within {self._limits.hello:g} s")

    def _behind(self) -> bool:
        return behind(self.hello.resume, self._replica.store, self._replica.log)

    def _welcome(self, now: float, unix_nano: int) -> None:
        """Decides where the stream starts, and sends the Welcome."""
        replica, hello = self._replica, self.hello
        start = decide(hello, replica.store, replica.log)
        self._epoch = replica.log.epoch
        digests = held(hello, hello.resume.bucket_digests)
        self._feed.start(start, digests, hello.encodings, now, asks=answers(hello))
        del hello.resume.bucket_digests[:]
        self.hello = pb.Hello.FromString(hello.SerializeToString())  # what was cleared stays in the old one's memory
        behind = self._behind()
        if self._held:
            self._happened.append(Held(caught_up=not behind))
        message = welcome(replica, start, self._limits, unix_nano, behind=behind)
        self._outbox.append(message.SerializeToString())

    # ------------------------------------------------------------ for inspection

    def state(self, now: float) -> inspection_pb2.NodeState.ValueType:
        """The node's state for inspection and metrics."""
        if self.closed is not None:
            return inspection_pb2.NODE_STATE_DISCONNECTED
        if self.applied_rev < self.sent_rev and self._feed.stalled(now):
            return inspection_pb2.NODE_STATE_STALLED
        if not self.acked.confirmed or self.phase in LACKING:
            return inspection_pb2.NODE_STATE_SYNCING
        return inspection_pb2.NODE_STATE_MERGING if self._feed.full else inspection_pb2.NODE_STATE_LIVE

    def behind_seconds(self, now: float) -> float:
        """The age in seconds of the oldest revision that is not in this node's kernel; 0 if it has all."""
        return self._replica.log.age_after(self.applied_rev, now)
