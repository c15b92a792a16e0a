"""Agents without kernels for `fanout`: the product's own client and session, thousands in one process.

    python -m bench.fanout_agents SERVER[,SERVER] SERVICES ENDPOINTS [CA]

Commands are lines of JSON on standard input, answers lines on standard output (`fanout`). Agents at one revision share
its state, which is hashes alone, so that what a message says is decoded and checked once and not by each: this process
could not do that for thousands. Each has its own stream, revisions, checks of the digest and Acks.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from bench import fanout_commands, machine
from bench.cluster import objects
from controlplane.facts import Fact
from controlplane.store import Store
from deltaplane.codec import decode_ops
from deltaplane.digest import StateDigest, object_hash
from deltaplane.model import ObjectKey, Op, Patch, Remove, Unsupported, Upsert
from deltaplane.panel import in_panel
from deltaplane.tls import Files
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.config.security import Security
from nodeagent.stream.channel import OPTIONS
from nodeagent.stream.client import Client, Pauses
from nodeagent.stream.credentials import Dialler, Plain, Secure
from nodeagent.stream.events import Changed, Event, Report, Send
from nodeagent.stream.handshake import Mode, identity
from nodeagent.stream.mirror import Mirror, Plan, RejectedError, Touched
from nodeagent.stream.phases import MESSAGES, Step
from nodeagent.stream.session import Session
from nodeagent.stream.validation import check_digest

K = TypeVar("K")
V = TypeVar("V")
KEPT = 256  # of each kind of what is shared
SAMPLE = 0.1  # seconds between two looks at the agent that is last
OWN_CONNECTION = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))  # else all channels of a process share one


class State(StateDigest):
    """What agents at one revision hold: the hash of each object, and the digest."""

    def __init__(self, hashes: Mapping[ObjectKey, int], digest: StateDigest) -> None:
        super().__init__()
        self.hashes, self.value, self.leaves = dict(hashes), digest.value, list(digest.leaves)

    def after(self, ops: Iterable[Op]) -> State:
        """The state that these ops lead to. Raises `RejectedError` where a patch is of another base."""
        new = State(self.hashes, self)
        for op in ops:
            if not isinstance(op, Unsupported):
                new._take(op)
        return new

    def _take(self, op: Upsert | Remove | Patch) -> None:
        old = self.hashes.get(op.key)
        if isinstance(op, Patch) and old != op.base_hash:
            raise RejectedError(f"{op.key}: not the base that is held")
        new = op.new_hash if isinstance(op, Patch) else object_hash(op.object) if isinstance(op, Upsert) else None
        self.replace(op.key, old, new)
        if new is not None:
            self.hashes[op.key] = new


class States:
    """States that agents share: what one message makes of one state is worked out once.

    `nodes`: how many nodes the cluster has; the state has fewer Node objects, for it is all agents' alike.
    """

    def __init__(self, services: int, endpoints: int) -> None:
        self.nodes = 0
        store = Store()
        things = list(objects(services, endpoints))
        store.update([Fact(thing.key, thing) for thing in things])
        hashes = {thing.key: object_hash(thing) for thing in things}
        self.first = State(hashes, store.digest)
        self._responses: dict[bytes, pb.WatchResponse] = {}
        self._after: dict[tuple[int, bytes], State] = {}

    def response(self, data: bytes) -> pb.WatchResponse:
        """The message, decoded; those of a round are the same bytes for all."""
        return self._kept(self._responses, data, lambda: pb.WatchResponse.FromString(data))

    def after(self, state: State, delta: pb.Delta, data: bytes) -> State:
        """The state that the Delta leads to."""
        return self._kept(self._after, (state.value, data), lambda: state.after(decode_ops(delta.ops)))

    def _kept(self, kept: dict[K, V], key: K, make: Callable[[], V]) -> V:
        found = kept.get(key)
        if found is None:
            while len(kept) >= KEPT:
                del kept[next(iter(kept))]
            found = kept[key] = make()
        return found


class Held(Mirror):
    """A mirror whose content is a `State`."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.digest = state

    def commit(self, plan: Plan) -> Touched:
        return Touched()


class Quick(Session):
    """The session; the content of a snapshot is taken for what is held already, that of a Delta is shared."""

    def __init__(self, name: str, states: States) -> None:
        super().__init__(identity(name, Mode("nftables")), Held(states.first))
        self._name, self._states = name, states
        self._begun = b""  # epoch of the snapshot that is under way

    def _take(self, data: bytes, now: float) -> list[Event]:
        response = self._states.response(data)
        if response.HasField("delta") and self.following:
            return self._on_shared(response.delta, data)
        return super()._take(data, now)

    def _on_shared(self, delta: pb.Delta, data: bytes) -> list[Event]:
        self.cursor.expect(delta)
        held: Any = self.mirror.digest
        state = self._states.after(held, delta, data)
        if delta.HasField("digest"):
            check_digest(state.value, delta.digest)
        self.mirror.digest = state
        self.cursor.follow(delta)
        traces = (cause.traceparent for cause in delta.causes if cause.traceparent)
        self.acks.received(
            awaited=delta.ack_now or any(in_panel(each, self._name, self._states.nodes) for each in traces)
        )
        self.phases.move(Step.DELTA)
        return [Changed(self.rev, Touched(), complete=False)]

    def _on_state(self, kind: str | None, response: pb.WatchResponse, data: bytes, now: float) -> list[Event]:
        step = MESSAGES.get(kind or "")
        if step not in {Step.BEGIN, Step.CHUNK, Step.END}:
            return super()._on_state(kind, response, data, now)
        if step is Step.BEGIN:
            self._begun = response.snapshot_begin.epoch
        elif step is Step.END:
            self.cursor.adopt(self._begun, response.snapshot_end)
            if response.snapshot_end.digest == self._states.first.value:
                self.mirror.digest = self._states.first
            self.acks.rebase(0)
        self.phases.move(step)
        return [Changed(self.rev, Touched(), complete=True)] if step is Step.END else []


class Agent:
    """A `client.Conversation` that commits everything at once."""

    def __init__(self, name: str, states: States) -> None:
        self.session = Quick(name, states)
        self.deltas = self.acks = self.size = self.defects = 0

    def connected(self, now: float) -> bytes:
        return self._out(self.session.connected(now))

    def _out(self, message: bytes) -> bytes:
        self.size += len(message)
        return message

    def received_all(self, messages: Iterable[bytes], now: float) -> list[bytes]:
        return [answer for data in messages for answer in self._received(data, now)]

    def rest(self, now: float) -> float:
        return 0.0

    def _received(self, data: bytes, now: float) -> list[bytes]:
        self.size += len(data)
        answers = []
        for item in self.session.received(data, now):
            if isinstance(item, Send):
                answers.append(item.message)
            elif isinstance(item, Report):
                self.defects += 1
            elif isinstance(item, Changed):
                answers += self._commit(item, now)
        self.acks += len(answers)
        return [self._out(answer) for answer in answers]

    def _commit(self, changed: Changed, now: float) -> list[bytes]:
        self.deltas += 1
        report = pb.CommitReport(queued_ns=40_000, resolve_ns=60_000, commit_ns=200_000, kernel_messages=4)
        ack = self.session.applied(changed.rev, now, report=report, unix_nano=time.time_ns())
        return [] if ack is None else [ack]

    def long_message(self, data: bytes) -> bool:
        return False

    def long_tick(self, now: float) -> bool:
        return False

    def unsaid(self, now: float) -> list[bytes]:
        return []

    def tick(self, now: float) -> list[bytes]:
        due = self.session.tick(now)
        self.acks += len(due)
        return [self._out(message) for message in due]

    def pause(self, now: float) -> float:
        return self.session.pause(now)

    def lost(self, now: float) -> str | None:
        return self.session.lost(now)

    def disconnected(self, now: float) -> None:
        self.session.disconnected()

    def handled(self, now: float) -> None:
        self.session.handled(now)

    def long_said(self, data: bytes) -> tuple[bytes, ...]:
        return ()

    def excused(self, seconds: float, now: float) -> None:
        self.session.excused(seconds, now)

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        return self.session.redirect()


class Load:
    """All agents of this process, and what it is told to do with them."""

    def __init__(self, server: str, states: States, dialler: Dialler) -> None:
        self._servers, self._states, self._dialler = server.split(","), states, dialler
        self._agents: list[Agent] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._samples: list[tuple[float, int]] = []

    async def join(self, number: int, at_once: int = 200) -> dict[str, Any]:
        """More agents, without state; returns when each follows."""
        began = time.monotonic()
        self._states.nodes += number
        for start in range(0, number, at_once):
            more = [Agent(f"node-{len(self._agents) + n}", self._states) for n in range(min(at_once, number - start))]
            self._agents += more
            for agent in more:
                client = Client(
                    self._servers, agent, options=OWN_CONNECTION, pauses=Pauses(idle=60.0), dialler=self._dialler
                )
                self._tasks.append(asyncio.create_task(client.run()))
            await _until(more)
        gc.collect()
        gc.freeze()
        return {"took": time.monotonic() - began}

    async def following(self, epoch: str) -> dict[str, Any]:
        """Returns when all follow this epoch."""
        await _until(self._agents, bytes.fromhex(epoch))
        return {"at": time.monotonic()}

    async def synced(self, epochs: list[str]) -> dict[str, Any]:
        """Returns when each follows one of these epochs and holds the state that they begin with."""
        new, first = {bytes.fromhex(epoch) for epoch in epochs}, self._states.first.value
        for agent in self._agents:
            session = agent.session
            while not (session.following and session.cursor.epoch in new and session.mirror.digest.value == first):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return {"at": time.monotonic()}

    async def watch(self, seconds: float) -> dict[str, Any]:
        """The lowest revision of all agents, now and then: (monotonic seconds, revision)."""
        samples = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            samples.append((time.monotonic(), min(agent.session.rev for agent in self._agents)))
            await asyncio.sleep(SAMPLE)
        return {"samples": samples}

    async def count(self) -> dict[str, Any]:
        """Sums over all agents since the start."""
        total = {name: sum(getattr(agent, name) for agent in self._agents) for name in COUNTED}
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {**total, "cpu": usage.ru_utime + usage.ru_stime, "rss_kib": machine.rss()}


COUNTED = ("deltas", "acks", "size", "defects")


async def _until(agents: Sequence[Agent], epoch: bytes = b"") -> None:
    for agent in agents:  # looked at now and then: an event for each would be work of the agents
        while not agent.session.following or (epoch and agent.session.cursor.epoch != epoch):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def main(server: str, services: str, endpoints: str, authority: str = "") -> None:
    dialler = Secure(Security(insecure=False, files=Files(authorities=authority))) if authority else Plain()
    load = Load(server, States(int(services), int(endpoints)), dialler)
    await fanout_commands.obey(
        {
            "join": load.join,
            "following": load.following,
            "synced": load.synced,
            "watch": load.watch,
            "count": load.count,
        }
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
