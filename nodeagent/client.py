"""The agent's gRPC edge: one stream to one replica at a time, reconnecting with full jitter. Decides nothing else."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc.aio

from deltaplane.logs import event
from nodeagent.alarm import Alarm

log = logging.getLogger(__name__)

METHOD = "/deltaplane.v1.DeltaService/Watch"
TICK_SECONDS = 5.0  # at most between two looks; a node without changes wakes up no more often than that
SOONEST = 0.01  # seconds between two looks at least
IDLE_SECONDS = 1.0  # likewise without a stream
BACKOFF_FIRST = 0.25  # seconds; doubles up to BACKOFF_LAST, the wait is drawn from 0 to it
BACKOFF_LAST = 15.0
BACKOFF_REFUSED = 60.0  # the server will not have this agent: hammering it would not help
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.http2.bdp_probe", 0),  # otherwise megabytes of unread deltas hide in the receive window
    ("grpc.http2.lookahead_bytes", 65536),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.enable_retries", 0),
)
Call = grpc.aio.StreamStreamCall[bytes, bytes]
REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}


class Conversation(Protocol):
    """The synchronous side (nodeagent.agent.Agent): what to say, given what was heard and what time it is."""

    def connected(self, now: float) -> bytes:
        """The first message of a new stream."""

    def received(self, data: bytes, now: float) -> Sequence[bytes]:
        """Takes one message and gives the answers; returns after the kernel has what it said."""

    def tick(self, now: float) -> Sequence[bytes]:
        """What is due by now; called when `pause` said, and now and then, connected or not."""

    def pause(self, now: float) -> float:
        """Seconds until `tick` or `lost` has something to say; may be infinite."""

    def lost(self, now: float) -> str | None:
        """Why this stream should be given up; None: it should not."""

    def disconnected(self, now: float) -> None:
        """The stream ended."""

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait and where to go (empty: the own list). Cleared by the call."""


class Client:
    """Keeps `conversation` connected to one of `servers` (HOST:PORT, tried in turn from a random start)."""

    def __init__(self, servers: Sequence[str], conversation: Conversation, jitter: Callable[[], float] = random.random):
        self._servers = list(servers)
        random.shuffle(self._servers)
        self._conversation = conversation
        self._jitter = jitter
        self._alone = asyncio.Event()  # no stream
        self._alone.set()
        self._alarm = Alarm()  # for the ticker
        self._told: dict[str, str] = {}  # server -> what was last said of it, so that a long outage is two lines

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._idle_ticks())
            group.create_task(self._connect_for_ever())

    def plan(self) -> None:
        """Has the ticker look when something is due; to be called after what happened outside the stream."""
        now = time.monotonic()
        pause = self._conversation.pause(now)
        self._alarm.by(now + max(SOONEST, min(TICK_SECONDS, pause)))

    async def _idle_ticks(self) -> None:
        """Retries towards the kernel go on without a control plane; answers to nobody are dropped."""
        while True:
            await self._alone.wait()
            await asyncio.sleep(IDLE_SECONDS)
            if self._alone.is_set():
                self._conversation.tick(time.monotonic())

    async def _connect_for_ever(self) -> None:
        failures = 0
        targets: list[str] = []
        while True:
            targets = targets or list(self._servers)
            progressed, refused = await self._session(targets.pop(0))
            failures = 0 if progressed else failures + 1
            redirect = self._conversation.redirect()
            if redirect is not None:
                pause, where = redirect
                targets = list(where) + list(self._servers)
            else:
                ceiling = BACKOFF_REFUSED if refused else min(BACKOFF_LAST, BACKOFF_FIRST * 2 ** min(failures, 10))
                pause = self._jitter() * ceiling
            await asyncio.sleep(pause)

    async def _session(self, server: str) -> tuple[bool, bool]:
        """One stream from connect to end: whether a message arrived, and whether the server refused this agent."""
        heard = False
        refused = False
        reason = ""
        try:
            async with grpc.aio.insecure_channel(server, options=OPTIONS) as channel:
                call: Call = channel.stream_stream(METHOD)()
                try:
                    await call.write(self._conversation.connected(time.monotonic()))
                    self._alone.clear()
                    ticker = asyncio.create_task(self._tick(call))
                    try:
                        async for data in call:
                            if not heard:
                                heard = True
                                self._say(server, "")
                            for answer in self._conversation.received(data, time.monotonic()):
                                await call.write(answer)
                            self.plan()
                    finally:
                        ticker.cancel()
                        await asyncio.gather(ticker, return_exceptions=True)
                    reason = f"{(await call.code()).name}: {await call.details() or 'stream ended'}"
                finally:
                    call.cancel()
        except grpc.aio.AioRpcError as error:
            refused = error.code() in REFUSALS
            reason = f"{error.code().name}: {error.details()}"
        except (asyncio.InvalidStateError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
            reason = f"{type(error).__name__}: {error}"
        self._alone.set()
        self._conversation.disconnected(time.monotonic())
        self._say(server, reason or "stream ended")
        return heard, refused

    async def _tick(self, call: Call) -> None:
        while True:
            self.plan()
            await self._alarm.rings()
            now = time.monotonic()
            for message in self._conversation.tick(now):
                await call.write(message)
            lost = self._conversation.lost(now)
            if lost is not None:
                event(log, logging.WARNING, "giving up on the stream", reason=lost)
                call.cancel()
                return

    def _say(self, server: str, reason: str) -> None:
        if self._told.get(server) == reason:
            return
        self._told[server] = reason
        if reason:
            event(log, logging.WARNING, "not connected; retrying", server=server, reason=reason)
        else:
            event(log, logging.INFO, "connected", server=server)
