"""One agent's stream, as a state machine without a socket: what arrives goes in, what to send next comes out.

Called by the server, one session per stream: its reader hands in every WatchRequest, its writer asks for the next
message until there is none, and then waits for a new revision, for `wake`, or until `deadline`. Time is given to it.

A stream goes through these phases:

    WAITING --Hello--> [HOLDING] --decision--> STREAMING --> closed

HOLDING is for an agent that has seen newer API versions than this replica (a failover to one that is behind): it is
answered when the replica has caught up, or after 5 s.

STREAMING sends whatever leads from `sent_rev` to head: one batch's own bytes, or one merged Delta, or, where the log
does not reach back that far, a snapshot. A slow stream therefore coalesces by itself. `sent_rev` promises nothing: a
revision is held by the node only when its Ack says so (S11). Beyond the window of unacknowledged deltas nothing is
sent. `sent_rev` never goes back within a stream, so a snapshot never shows an agent an older state than it had.

A snapshot is partial where the agent said its bucket digests and at most half of them differ (`controlplane.catchup`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum

from msgspec import Struct

from controlplane.catchup import CONNECTED, LEFT_BEHIND, CatchUp, Tally
from controlplane.inflight import Inflight
from controlplane.log import MERGE_BATCHES, Log
from controlplane.resume import PROTOCOL, ack_problem, behind, decide, held, problem, reason_of
from controlplane.snapshot import Snapshots
from controlplane.store import Store
from controlplane.stream_events import AskedAgain, Event, Introduced
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2


class Limits(Struct, frozen=True):
    """Sizes and times of a stream; seconds, bytes."""

    window_deltas: int = 64
    window_bytes: int = 4 * 1024 * 1024
    message_bytes: int = 256 * 1024  # aimed at; a single batch may have more, 1 MiB at most
    heartbeat: float = 10.0
    min_ack_interval: float = 0.5
    hold: float = 5.0
    hello: float = 10.0  # until a new stream has introduced itself
    stalled: float = 60.0
    resync_pause: float = 5.0  # between two snapshots one agent asks for


class Closed(Struct, frozen=True):
    """Why the stream ends: a gRPC status name and a line for the operator."""

    status: str
    detail: str


class _Phase(Enum):
    WAITING = 1
    HOLDING = 2
    STREAMING = 3


class Session:
    """One stream. `wake` is called when there is something to send that no new revision announces."""

    def __init__(
        self,
        store: Store,
        log: Log,
        snapshots: Snapshots,
        *,
        tally: Tally | None = None,
        server_id: str = "",
        cluster_id: Callable[[], str] = lambda: "",
        ready: Callable[[], bool] = lambda: True,
        limits: Limits | None = None,
        wake: Callable[[], None] = lambda: None,
        peer: str = "",
    ) -> None:
        self.hello = pb.Hello()
        self.node_name = ""
        self.peer = peer
        self.closed: Closed | None = None
        self.sent_rev = 0
        self.received_rev = 0
        self.applied_rev = 0
        self.acked = False  # whether any Ack confirmed this stream's base
        self.failed: tuple[pb.ObjectFailure, ...] = ()
        self.more_failed = 0
        self.brake: pb.Brake | None = None  # what the agent's safety brake holds
        self.unsupported_ops = 0
        self._store, self._log = store, log
        self._server_id, self._cluster_id, self._ready, self._wake = server_id, cluster_id, ready, wake
        self._limits = limits or Limits()
        self._phase = _Phase.WAITING
        self._epoch = b""  # the history this stream is in
        self._hello_until = float("inf")  # from the first look on
        self._hold_until = 0.0
        self._outbox: deque[bytes] = deque()
        self.catch_up = CatchUp(snapshots, tally or Tally(), wake)
        self._inflight = Inflight(log)
        self._progress_at = 0.0
        self._heartbeat_at = 0.0
        self._resync_at = float("-inf")

    # ------------------------------------------------------------ in

    def on_message(self, request: pb.WatchRequest, now: float) -> list[Event]:
        """Takes one request and returns what happened, oldest first. A broken rule closes the session."""
        kind = request.WhichOneof("message")
        if self.closed is not None or kind is None:
            return []  # a message of a later protocol: nothing we rely on
        if kind == "hello":
            return self._on_hello(request.hello, now)
        if self._phase is _Phase.WAITING:
            self.close("INVALID_ARGUMENT", f"the first message must be Hello, not {kind}")
        elif kind == "ack":
            wrong = ack_problem(request.ack)
            if wrong is None:
                return self._on_ack(request.ack, now)
            self.close(*wrong)
        elif kind == "resync_request":
            return self._on_resync(request.resync_request, now)
        elif kind == "drain":
            self.close("OK", f"the agent left: {request.drain.reason}")
        return []

    def _on_hello(self, hello: pb.Hello, now: float) -> list[Event]:
        wrong = self._wrong(hello)
        if wrong is not None:
            self.close(*wrong)
            return []
        self.hello, self.node_name = hello, hello.node_name
        self._phase = _Phase.HOLDING
        self._hold_until = now + (self._limits.hold if self._behind(hello.resume) else 0.0)
        return [Introduced()]

    def _wrong(self, hello: pb.Hello) -> tuple[str, str] | None:
        if not self._ready():  # S1
            return "UNAVAILABLE", "this replica has not yet seen the whole cluster state; try again or try another"
        if self._phase is not _Phase.WAITING:
            return "INVALID_ARGUMENT", "Hello came twice on one stream"
        return problem(hello)

    def _on_ack(self, ack: pb.Ack, now: float) -> list[Event]:
        if max(ack.applied_rev, ack.received_rev) > self.sent_rev:
            self.close(
                "INVALID_ARGUMENT", f"Ack for revision {ack.received_rev}, but {self.sent_rev} was the last sent"
            )
            return []
        self.brake = ack.brake if ack.HasField("brake") else None
        if self.brake is not None:
            return []
        self.failed, self.more_failed = tuple(ack.failed), ack.more_failed
        self.unsupported_ops = ack.unsupported_ops
        self.received_rev = max(self.received_rev, ack.received_rev)
        if ack.applied_rev > self.applied_rev or not self.acked:
            self._progress_at = now
        self.acked = self.acked or ack.applied_rev > 0 or ack.received_rev > 0
        self.applied_rev = max(self.applied_rev, ack.applied_rev)
        return [*self._inflight.land(self.applied_rev, ack.commits)]

    def _on_resync(self, request: pb.ResyncRequest, now: float) -> list[Event]:
        reason = reason_of(request)
        self._resync_at = max(now, self._resync_at + self._limits.resync_pause)
        self.catch_up.want(self._resync_at, reason, held(self.hello, request.bucket_digests))
        return [AskedAgain(reason)]

    # ------------------------------------------------------------ out

    def next_message(self, now: float, unix_nano: int = 0) -> bytes | None:
        """The next WatchResponse to write, None while the stream lacks nothing (or may not be sent more)."""
        self._check(now)
        if self.closed is not None:
            return self._outbox.popleft() if self._outbox else None  # a GoAway is still worth sending
        if self._phase is _Phase.HOLDING and (now >= self._hold_until or not self._behind(self.hello.resume)):
            self._decide(now, unix_nano)
        if self._outbox:
            return self._outbox.popleft()
        if self._phase is not _Phase.STREAMING:
            return None
        message = self._next_snapshot(now) if self._lacks_base() else self._next_delta(now, unix_nano)
        if message is None and now >= self._heartbeat_at:
            beat = pb.Heartbeat(head_rev=self._log.head, server_time_unix_nano=unix_nano, digest=self._log.digest)
            message = pb.WatchResponse(heartbeat=beat).SerializeToString()
        if message is not None:
            self._heartbeat_at = now + self._limits.heartbeat
        return message

    def deadline(self) -> float:
        """When `next_message` should be asked again even if nothing happens."""
        if self._phase is _Phase.WAITING:
            return self._hello_until
        if self._phase is _Phase.HOLDING:
            return self._hold_until
        if self.catch_up.needed and not self.catch_up.under_way:
            return min(self._heartbeat_at, self.catch_up.at)
        return self._heartbeat_at

    def _check(self, now: float) -> None:
        """Closes the stream where it has no base any more, or never began."""
        if self._phase is _Phase.STREAMING and self._epoch != self._log.epoch:
            self.close("UNAVAILABLE", "this replica has begun another history: connect again")
        if self._phase is _Phase.WAITING:
            self._await_hello(now)

    def _await_hello(self, now: float) -> None:
        if self._hello_until == float("inf"):
            self._hello_until = now + self._limits.hello
        elif now >= self._hello_until:
            self.close("DEADLINE_EXCEEDED", f"no Hello within {self._limits.hello:g} s")

    def close(self, status: str, detail: str) -> None:
        """Ends the session with this gRPC status; only the first call counts."""
        if self.closed is None:
            self.closed = Closed(status, detail)
            self.catch_up.give_up()
            self._wake()

    def go_away(
        self, reason: str, *, retry_after_ms: int = 0, targets: Sequence[str] = (), deadline_ms: int = 0
    ) -> None:
        """Asks the agent to leave for another replica; the stream goes on until it does."""
        message = pb.GoAway(reason=reason, retry_after_ms=retry_after_ms, targets=targets, deadline_ms=deadline_ms)
        self._outbox.append(pb.WatchResponse(go_away=message).SerializeToString())
        self._wake()

    def release_brake(self) -> bool:
        """Has the agent take what its safety brake holds, as an operator asks; False: it holds nothing."""
        if self.closed is not None or self.brake is None:
            return False
        self._outbox.append(
            pb.WatchResponse(
                brake_release=pb.BrakeRelease(since_unix_nano=self.brake.since_unix_nano)
            ).SerializeToString()
        )
        self._wake()
        return True

    def _behind(self, resume: pb.Resume) -> bool:
        return behind(resume, self._store, self._log)

    def _decide(self, now: float, unix_nano: int) -> None:
        start = decide(self.hello, self._store, self._log)
        self._epoch = self._log.epoch
        self.sent_rev = start.rev
        if start.decision == pb.RESUME_DECISION_DELTA:
            self.catch_up.resumed(start.reason, equal=start.rev == self._log.head)
        else:
            self.catch_up.want(0.0, CONNECTED, held(self.hello, self.hello.resume.bucket_digests))
        del self.hello.resume.bucket_digests[:]  # 2 KB of each stream
        reason = start.reason
        if self._behind(self.hello.resume):
            reason += "; this replica is behind what the agent has seen"
        limits = self._limits
        welcome = pb.Welcome(
            protocol=PROTOCOL,
            server_id=self._server_id,
            epoch=self._log.epoch,
            head_rev=self._log.head,
            decision=start.decision,
            reason=reason,
            ack_window=limits.window_deltas,
            min_ack_interval_ms=int(limits.min_ack_interval * 1000),
            heartbeat_interval_ms=int(limits.heartbeat * 1000),
            server_time_unix_nano=unix_nano,
            cluster_id=self._cluster_id(),
        )
        self._outbox.append(pb.WatchResponse(welcome=welcome).SerializeToString())
        self._phase = _Phase.STREAMING
        self._heartbeat_at = now + limits.heartbeat
        self._progress_at = now

    # ------------------------------------------------------------ streaming

    def _lacks_base(self) -> bool:
        if not self.catch_up.busy and not self._log.holds(self.sent_rev):
            self.catch_up.want(0.0, LEFT_BEHIND)  # too slow: the log went on without this stream
        return self.catch_up.busy

    def _next_snapshot(self, now: float) -> bytes | None:
        if not self.catch_up.sending:
            zlib = pb.ENCODING_ZLIB in self.hello.encodings
            encoding = pb.ENCODING_ZLIB if zlib else pb.ENCODING_IDENTITY
            snapshot = self.catch_up.begin(now, encoding, self.sent_rev)
            if snapshot is None:
                return None
            self.sent_rev = snapshot.rev
            self._inflight.clear()
            self._progress_at = now + self._limits.stalled  # twice the patience for a cold load
        return self.catch_up.next()

    def _next_delta(self, now: float, unix_nano: int) -> bytes | None:
        low, high = self.sent_rev, min(self._log.head, self.sent_rev + MERGE_BATCHES)
        if low == high or self._window_full():
            return None
        message = self._log.merged(low, high)
        while len(message) > self._limits.message_bytes and high - low > 1:
            high = low + (high - low) // 2
            message = self._log.merged(low, high)
        if not self._inflight:
            self._progress_at = max(self._progress_at, now)
        self._inflight.launch(low, high, len(message), unix_nano)
        self.sent_rev = high
        return message

    def _window_full(self) -> bool:
        limits = self._limits
        return len(self._inflight) >= limits.window_deltas or self._inflight.size >= limits.window_bytes

    # ------------------------------------------------------------ for inspection

    def state(self, now: float) -> inspection_pb2.NodeState.ValueType:
        """How the stream is doing."""
        if self.closed is not None:
            return inspection_pb2.NODE_STATE_DISCONNECTED
        if self.applied_rev < self.sent_rev and now - self._progress_at > self._limits.stalled:
            return inspection_pb2.NODE_STATE_STALLED
        if not self.acked or self.catch_up.busy:
            return inspection_pb2.NODE_STATE_SYNCING
        return inspection_pb2.NODE_STATE_MERGING if self._window_full() else inspection_pb2.NODE_STATE_LIVE

    def behind_seconds(self, now: float) -> float:
        """How long the oldest revision that is not in this node's kernel has been in the log."""
        rev = max(self.applied_rev, self._log.tail) + 1
        return 0.0 if rev > self._log.head else max(0.0, now - self._log.between(rev - 1, rev)[0].at)
