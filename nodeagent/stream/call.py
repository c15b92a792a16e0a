"""One stream of the agent to one replica, from dialling to its end. Called by `nodeagent.stream.client`, once an
attempt.

A reader takes messages and sends the answers; a ticker sends what is due and decides that the peer is silent. Each is a
task of its own, and the first that ends, however it ends, ends the stream: cancelling the call cancels the reader from
within, and that must not reach whoever dials the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import grpc
import grpc.aio
from msgspec import Struct

from deltaplane.logs import event
from nodeagent.stream.alarm import Alarm

log = logging.getLogger(__name__)

METHOD = "/deltaplane.v1.DeltaService/Watch"
RECEIVE_BYTES = 4 * 1024 * 1024  # replicas send 1 MiB at most; the rest is margin
SEND_BYTES = 1024 * 1024
Options = tuple[tuple[str, int], ...]
OPTIONS: Options = (
    ("grpc.http2.bdp_probe", 0),  # otherwise megabytes of unread deltas hide in the receive window
    ("grpc.http2.lookahead_bytes", 65536),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),  # becomes TCP_USER_TIMEOUT: until the peer's kernel confirms bytes
    ("grpc.http2.ping_timeout_ms", 10_000),  # until the peer itself answers; a minute where this is not said
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),  # http_proxy is for the way out of the cluster; replicas are inside
    ("grpc.max_receive_message_length", RECEIVE_BYTES),
    ("grpc.max_send_message_length", SEND_BYTES),
)
Call = grpc.aio.StreamStreamCall[bytes, bytes]
REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}


class Times(Struct, frozen=True):
    """Limits of a stream, in seconds."""

    look: float = 5.0  # at most between two looks; a node without changes wakes up no more often than that
    soonest: float = 0.01  # between two looks at least
    late: float = 1.0  # a look that comes so much later than planned: this process did not run
    connect: float = 10.0  # until the Hello is on its way
    send: float = 30.0  # until the peer takes a message


class Ended(Struct, frozen=True):
    """How a stream ended. `defect`: what this program did wrong."""

    reason: str
    heard: bool = False  # a message arrived
    refused: bool = False  # the server will not have this agent
    superseded: bool = False  # another agent came with this node's name
    defect: BaseException | None = None


class Conversation(Protocol):
    """What a stream asks of the synchronous side (nodeagent.stream.client.Conversation has all of it)."""

    def connected(self, now: float) -> bytes:
        """The first message of a new stream."""

    def received(self, data: bytes, now: float) -> Iterable[bytes]:
        """Takes one message and gives the answers; returns after the kernel has what it said."""

    def handled(self, now: float) -> None:
        """The last message is dealt with: the peer's silence begins."""

    def excused(self, seconds: float, now: float) -> None:
        """This process did not run for so long until now: what the peer said meanwhile is still to be read."""

    def tick(self, now: float) -> Iterable[bytes]:
        """What is due by now; called when `pause` said, and now and then, connected or not."""

    def pause(self, now: float) -> float:
        """Seconds until `tick` or `lost` has something to say; may be infinite."""

    def lost(self, now: float) -> str | None:
        """Why this stream should be given up; None: it should not."""


class _GivenUpError(Exception):
    """The agent itself ends the stream; the text says why."""


class Stream:
    """`run` it once. `greeted` is called when the first message arrives."""

    def __init__(self, conversation: Conversation, times: Times, options: Options, greeted: Callable[[], None]) -> None:
        self._conversation = conversation
        self._times = times
        self._options = options
        self._alarm = Alarm()
        self._sending = asyncio.Lock()  # a call takes one message at a time
        self._greeted = greeted
        self._heard = False

    def plan(self) -> None:
        """Has the ticker look when something is due; to be called after what happened outside the stream."""
        now = time.monotonic()
        times = self._times
        self._alarm.by(now + max(times.soonest, min(times.look, self._conversation.pause(now))))

    async def run(self, server: str) -> Ended:
        """Dials HOST:PORT and returns when the stream has ended. Raises nothing but the caller's own cancellation."""
        async with grpc.aio.insecure_channel(server, options=self._options) as channel:
            call: Call = channel.stream_stream(METHOD)()
            try:
                return await self._until_one_ends(call)
            finally:
                call.cancel()

    async def _until_one_ends(self, call: Call) -> Ended:
        tasks = [asyncio.create_task(self._talk(call))]
        try:
            tasks.append(asyncio.create_task(self._tick(call)))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return await self._ended(call, *done)
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            self._alarm.close()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _talk(self, call: Call) -> None:
        try:
            async with self._sending, asyncio.timeout(self._times.connect):
                await call.write(self._conversation.connected(time.monotonic()))
        except TimeoutError:
            raise _GivenUpError(f"no connection within {self._times.connect:g} s") from None
        async for data in call:
            if not self._heard:
                self._heard = True
                self._greeted()
            answers = self._conversation.received(data, time.monotonic())
            self._conversation.handled(time.monotonic())
            await self._send(call, answers)
            self.plan()

    async def _send(self, call: Call, messages: Iterable[bytes]) -> None:
        for message in messages:
            try:
                async with asyncio.timeout(self._times.send), self._sending:
                    await call.write(message)
            except TimeoutError:
                raise _GivenUpError(f"the replica takes nothing for {self._times.send:g} s") from None

    async def _tick(self, call: Call) -> None:
        while True:
            self.plan()
            due = await self._alarm.rings()
            now = time.monotonic()
            if now - due > self._times.late:
                self._conversation.excused(now - due, now)
            lost = self._conversation.lost(now)
            if lost is not None:
                event(log, logging.WARNING, "giving up on the stream", reason=lost)
                raise _GivenUpError(lost)
            await self._send(call, self._conversation.tick(now))

    async def _ended(self, call: Call, *done: asyncio.Task[None]) -> Ended:
        """The status that the replica gave goes before whatever came of it here."""
        errors = [None if task.cancelled() else task.exception() for task in done]
        heard = self._heard
        for error in errors:
            if isinstance(error, _GivenUpError):
                return Ended(str(error), heard)
            if error is not None and not isinstance(error, _FOREIGN):
                return Ended(f"{type(error).__name__}: {error}", heard, defect=error)
        if call.done():
            code, details = await call.code(), await call.details()
            superseded = code is grpc.StatusCode.ABORTED
            return Ended(f"{code.name}: {details or 'stream ended'}", heard, code in REFUSALS, superseded)
        reason = "; ".join(f"{type(error).__name__}: {error}" for error in errors if error)
        return Ended(reason or "stream ended", heard)


_FOREIGN = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError, asyncio.CancelledError)
"""What gRPC raises when a call has ended, or is in no state for what was asked of it (ExecuteBatchError among them)."""
