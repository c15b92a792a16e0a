"""One stream of the agent to one replica, from dialling to its end. Called by `nodeagent.stream.client`, once an
attempt.

A reader takes messages and sends the answers; a ticker sends what is due and decides that the peer is silent. Each is a
task of its own, and the first that ends, however it ends, ends the stream: cancelling the call cancels the reader from
within, and that must not reach the client, which dials the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import grpc
import grpc.aio
from msgspec import Struct

from deltaplane.certificates import Unusable
from deltaplane.logs import event
from nodeagent.stream import ends
from nodeagent.stream.alarm import Alarm
from nodeagent.stream.beside import Beside
from nodeagent.stream.bound import Bound
from nodeagent.stream.channel import METHOD, Options
from nodeagent.stream.credentials import Dialler, Plain
from nodeagent.stream.inbox import Inbox

log = logging.getLogger(__name__)

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
    late: float = 1.0  # a look so much later than planned shows that this process did not run
    connect: float = 10.0  # until the Hello is on its way
    send: float = 30.0  # until the peer takes a message
    patient: float = 0.3  # that a message may take before the peer hears that it takes long


class Ended(Struct, frozen=True):
    """How a stream ended. `defect`: the exception, where it is a fault of this program. `kind`: a word to count by
    (nodeagent.stream.ends)."""

    reason: str
    heard: bool = False  # a message arrived
    refused: bool = False  # the server refuses this agent
    superseded: bool = False  # another agent came with this node's name
    defect: BaseException | None = None
    kind: str = ends.GIVEN_UP


class Conversation(Protocol):
    """What a stream asks of the synchronous side (nodeagent.stream.client.Conversation has all of it)."""

    def connected(self, now: float) -> bytes:
        """The first message of a new stream."""

    def long_message(self, data: bytes) -> bool:
        """Whether it may take long to take this message: more than some milliseconds."""

    def rest(self, now: float) -> float:
        """Seconds in which messages are to gather before the next are taken; 0: they are taken at once."""

    def received_all(self, messages: Sequence[bytes], now: float) -> Iterable[bytes]:
        """Takes what has come, in order, and gives the answers; returns after the kernel has what they said."""

    def long_said(self, data: bytes) -> Iterable[bytes]:
        """What the peer hears of a message that takes long, while `received_all` has it still; from another thread."""

    def handled(self, now: float) -> None:
        """The last messages have been handled: the time of silence starts now."""

    def excused(self, seconds: float, now: float) -> None:
        """This process did not run for so long until now: what the peer said meanwhile is still to be read."""

    def unsaid(self, now: float) -> Iterable[bytes]:
        """What may be said by now and otherwise waits until it is due: asked for before something that takes long."""

    def long_tick(self, now: float) -> bool:
        """Whether `tick` may take long now."""

    def tick(self, now: float) -> Iterable[bytes]:
        """What is due by now; called when `pause` said, and now and then, connected or not."""

    def pause(self, now: float) -> float:
        """Seconds until `tick` or `lost` has something to say; may be infinite."""

    def lost(self, now: float) -> str | None:
        """Why this stream should be given up; None: it should not."""


class _GivenUpError(Exception):
    """The agent itself ends the stream; the text says why."""


class Stream:
    """`run` it once. `greeted` is called when the first message arrives. `name`: as `Dialler.channel` takes it."""

    def __init__(
        self,
        conversation: Conversation,
        beside: Beside,
        times: Times,
        options: Options,
        greeted: Callable[[], None],
        *,
        dialler: Dialler | None = None,
        name: str = "",
    ) -> None:
        self._dialler = dialler or Plain()
        self._name = name
        self._conversation = conversation
        self._beside = beside
        self._call: Call | None = None
        self._times = times
        self._options = options
        self._alarm = Alarm()
        self._sending = asyncio.Lock()  # a call takes one message at a time
        self._stuck: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._taking = Bound(times.send, self._not_taken)
        self._handling = Bound(times.patient, self._takes_long)
        self._greeted = greeted
        self._heard = False
        self._inbox: Inbox | None = None
        self._working: tuple[bytes, ...] = ()  # the messages that are being handled
        self._saying: asyncio.Task[None] | None = None

    def plan(self) -> None:
        """Has the ticker look when something is due; to be called after what happened outside the stream."""
        now = time.monotonic()
        times = self._times
        # While a long call runs, the agent is not asked: the next look waits for the call's end.
        pause = times.look if self._beside.busy else self._conversation.pause(now)
        self._alarm.by(now + max(times.soonest, min(times.look, pause)))

    async def say_unsaid(self) -> None:
        """Sends the Ack that waits before a long call begins. An error shows at the next message that is sent."""
        if self._call is not None:
            with suppress(_GivenUpError, *_FOREIGN[:-1]):
                await self._send(self._call, self._conversation.unsaid(time.monotonic()))

    async def run(self, server: str) -> Ended:
        """Dials the server and returns when the stream has ended. Raises nothing but the caller's own cancellation."""
        try:
            channel = self._dialler.channel(server, self._options, self._name)
            metadata = self._dialler.metadata(server)
        except Unusable as error:
            return Ended(str(error), kind=ends.FILES)
        async with channel:
            call: Call = channel.stream_stream(METHOD)(metadata=metadata)
            try:
                return await self._until_one_ends(call)
            finally:
                self._call = None
                call.cancel()

    async def _until_one_ends(self, call: Call) -> Ended:
        parts: list[asyncio.Future[None]] = [self._stuck, asyncio.create_task(self._talk(call))]
        try:
            parts.append(asyncio.create_task(self._tick(call)))
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            return await self._ended(call, *done)
        finally:
            call.cancel()
            if self._saying is not None:
                parts.append(self._saying)
            for each in parts:
                each.cancel()
            for timer in (self._alarm, self._taking, self._handling):
                timer.close()
            await asyncio.gather(*parts, return_exceptions=True)
            if self._inbox is not None:
                await self._inbox.close()

    async def _talk(self, call: Call) -> None:
        hello = await self._beside.turn(lambda: self._conversation.connected(time.monotonic()))
        try:
            async with self._sending, asyncio.timeout(self._times.connect):
                await call.write(hello)
        except TimeoutError:
            raise _GivenUpError(f"no connection within {self._times.connect:g} s") from None
        self._call = call
        self._inbox = inbox = Inbox(call)
        turn = partial(
            self._beside.turn,
            self._take,
            long=partial(self._begin, inbox),
            before=partial(self._before, inbox),
            message=True,
        )
        while await inbox.arrived():
            if not self._heard:
                self._heard = True
                self._greeted()
            await self._send(call, await self._handle(inbox, turn))
            self.plan()

    async def _handle(self, inbox: Inbox, turn: Callable[[], Awaitable[Iterable[bytes]]]) -> Iterable[bytes]:
        """Has the agent take all that has come. Where that takes long, the peer hears so, and what comes is read."""
        if rest := self._conversation.rest(time.monotonic()):
            inbox.read_ahead()
            await asyncio.sleep(rest)
        if self._beside.busy:
            inbox.read_ahead()
        self._handling.begin()
        try:
            return await turn()
        finally:
            self._working = ()
            self._handling.end()

    def _begin(self, inbox: Inbox) -> bool:
        """It is the messages' turn, of all that are there; whether they may take long."""
        self._working = inbox.take()
        return len(self._working) > 1 or self._conversation.long_message(self._working[0])

    async def _before(self, inbox: Inbox) -> None:
        inbox.read_ahead()
        await self.say_unsaid()

    def _takes_long(self) -> None:
        if self._call is not None:
            self._saying = asyncio.create_task(self._say_long(self._call, self._working))

    async def _say_long(self, call: Call, working: tuple[bytes, ...]) -> None:
        """Of the last that has anything to say, and never after the answers. An error shows at the next message."""
        said = next(filter(None, map(self._conversation.long_said, reversed(working))), ())
        with suppress(*_FOREIGN[:-1]):
            for message in said:
                async with self._sending:
                    if self._working is working:
                        await self._write(call, message)

    def _take(self) -> Iterable[bytes]:
        answers = self._conversation.received_all(self._working, time.monotonic())
        self._conversation.handled(time.monotonic())
        return answers

    async def _send(self, call: Call, messages: Iterable[bytes]) -> None:
        for message in messages:
            async with self._sending:
                await self._write(call, message)

    async def _write(self, call: Call, message: bytes) -> None:
        self._taking.begin()
        try:
            await call.write(message)
        finally:
            self._taking.end()

    def _not_taken(self) -> None:
        if not self._stuck.done():
            self._stuck.set_exception(_GivenUpError(f"the replica takes nothing for {self._times.send:g} s"))

    async def _tick(self, call: Call) -> None:
        while True:
            self.plan()
            due = await self._alarm.rings()
            look = partial(self._look, time.monotonic() - due)
            await self._send(call, await self._beside.turn(look, long=self._long_look, before=self.say_unsaid))

    def _long_look(self) -> bool:
        return self._conversation.long_tick(time.monotonic())

    def _look(self, late: float) -> Iterable[bytes]:
        """`late`: seconds that the loop did not run. The wait for a long call is not among them: messages are first."""
        now = time.monotonic()
        if late > self._times.late:
            self._conversation.excused(late, now)
        lost = self._conversation.lost(now)
        if lost is not None:
            event(log, logging.WARNING, "giving up on the stream", reason=lost)
            raise _GivenUpError(lost)
        return self._conversation.tick(now)

    async def _ended(self, call: Call, *done: asyncio.Future[None]) -> Ended:
        """The status that the replica gave explains more than the exceptions that it caused in this process."""
        errors = [None if task.cancelled() else task.exception() for task in done]
        heard = self._heard
        for error in errors:
            if isinstance(error, _GivenUpError):
                return Ended(str(error), heard)
            if error is not None and not isinstance(error, _FOREIGN):
                return Ended(f"{type(error).__name__}: {error}", heard, defect=error, kind=ends.DEFECT)
        if call.done():
            code, details = await call.code(), await call.details()
            superseded = code is grpc.StatusCode.ABORTED
            said, kind = details or "stream ended", ends.reason_of(code, details or "")
            return Ended(f"{code.name}: {said}", heard, code in REFUSALS, superseded, kind=kind)
        reason = "; ".join(f"{type(error).__name__}: {error}" for error in errors if error)
        return Ended(reason or "stream ended", heard)


_FOREIGN = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError, asyncio.CancelledError)
"""What gRPC raises when a call has ended, or is in no state for what was asked of it (ExecuteBatchError among them)."""
