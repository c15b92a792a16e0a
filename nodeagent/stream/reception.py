"""Messages about the cluster's state, while a stream is open: deltas, snapshots and heartbeats. Owned by the session.

A message is handled before the phase changes. What does not fit raises, and the session asks for a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable

from deltaplane.panel import in_panel
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.brake import Brake
from nodeagent.stream.events import Changed, Event, Record, Report, Send, braked
from nodeagent.stream.intake import Intake
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.phases import Step
from nodeagent.stream.progress import Progress
from nodeagent.stream.resync_request import ResyncRequester
from nodeagent.stream.snapshot_assembler import SnapshotAssembler
from nodeagent.stream.validation import MisfitError


class Reception:
    """`reset` begins each stream. `requester` makes the ResyncRequests, and learns which snapshot was taken in.

    `node`: the name of this node.
    """

    def __init__(self, progress: Progress, mirror: Mirror, brake: Brake, requester: ResyncRequester, node: str) -> None:
        self.intake = Intake(mirror, progress.cursor, brake)
        self._progress = progress
        self._mirror = mirror
        self._brake = brake
        self._requester, self._node = requester, node
        self._assembler: SnapshotAssembler | None = None  # set while the phase is COLLECTING
        self._missed = 0  # heartbeats in a row that announce revisions which did not come

    def reset(self) -> None:
        """A stream opens or ends: nothing is left of a snapshot that was not complete."""
        self._assembler = None
        self._missed = 0

    def request(self, misfit: MisfitError) -> list[Event]:
        """Gives up a snapshot that is not complete, and asks for what the mirror lacks."""
        assembler, self._assembler = self._assembler, None
        return self._requester.ask(misfit, assembler, self._mirror.digest)

    def take(self, step: Step, response: pb.WatchResponse, data: bytes, now: float) -> list[Event]:
        """Handles a message that the phase allows; `data` is its serialised form."""
        if step is Step.DELTA:
            return self._on_delta(response.delta, data, now)
        if step is Step.HEARTBEAT:
            return self._on_heartbeat(response.heartbeat, now)
        if step is Step.ASKED:
            self._assembler = None
            return [self._requester.answer(response.digest_request, self._mirror.digest)]
        if step is Step.BEGIN:
            self._assembler = SnapshotAssembler(response.snapshot_begin, data)
        elif self._assembler is not None and step is Step.CHUNK:
            self._assembler.add(response.snapshot_chunk, data)
        elif self._assembler is not None:
            self._assembler.end(response.snapshot_end, data)
            return self._adopt(self._assembler, response.snapshot_end)
        return []

    def _on_delta(self, delta: pb.Delta, data: bytes, now: float) -> list[Event]:
        if not self._progress.following:
            self._brake.saw(delta, self._mirror.services, now)
            return []
        taken = self.intake.delta(delta)
        self._missed = 0
        causes = tuple(delta.causes)
        self._progress.acks.received(awaited=delta.ack_now or self._reports(causes))
        changed = Changed(self._progress.rev, taken.touched, complete=False, causes=causes)
        return [changed, Record((data,), whole=False), *self._unsupported(taken.unsupported)]

    def _reports(self, causes: Iterable[pb.Cause]) -> bool:
        """Whether a traced change awaits its Ack of this node; those of the others come when they are due anyway."""
        traces = (cause.traceparent for cause in causes if cause.traceparent)
        return any(in_panel(trace, self._node, len(self._mirror.nodes)) for trace in traces)

    def _unsupported(self, number: int) -> list[Event]:
        self._progress.acks.unsupported_ops += number
        return [Report("UNSUPPORTED", f"{number} changes of a kind this agent does not know")] if number else []

    def _adopt(self, assembler: SnapshotAssembler, end: pb.SnapshotEnd) -> list[Event]:
        taken = self.intake.snapshot(assembler, end)
        told = braked(self._brake.passed())
        progress, whole = self._progress, assembler.places is None
        progress.cluster = progress.offered or progress.cluster
        progress.acks.rebase(0)
        progress.acks.unsupported_ops = 0
        self._requester.taken(assembler)
        self.reset()
        events = Changed(progress.rev, taken.touched, complete=whole), Record(tuple(assembler.messages), whole=whole)
        return [*told, *events, *self._unsupported(taken.unsupported)]

    def _on_heartbeat(self, heartbeat: pb.Heartbeat, now: float) -> list[Event]:
        progress, head = self._progress, heartbeat.head_rev
        if not progress.following:
            return []
        progress.told_head = head
        progress.target = min(progress.target, progress.rev)  # the replica has sent everything, or waits for an Ack
        told = progress.acked_rev == progress.rev == progress.applied_rev
        self._missed = self._missed + 1 if told and head > progress.rev else 0
        if self._missed > 1:
            detail = f"revision {head} was announced twice, but nothing came after {progress.rev}"
            raise MisfitError(pb.RESYNC_REASON_GAP, detail)
        self.intake.compare(heartbeat)
        return [*(braked(self._brake.passed()) if head <= progress.rev else ()), Send(progress.ack(now))]
