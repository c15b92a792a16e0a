"""The agent's gRPC edge: it keeps one stream open, to one replica after another.

Whatever ends a stream (`nodeagent.stream.call`), the next attempt follows, at another of the servers where there is
one, with full jitter; at once when this agent's own files are mended (`waiting`). Only the cancellation of `Client.run`
itself ends it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from math import ceil
from typing import Protocol

from msgspec import Struct

from deltaplane import supervise
from deltaplane.backoff import Backoff
from deltaplane.logs import event
from deltaplane.once import Once
from nodeagent.stream import call, ends
from nodeagent.stream.beside import Beside, always, nothing
from nodeagent.stream.call import Ended, Stream, Times
from nodeagent.stream.channel import OPTIONS, Options
from nodeagent.stream.credentials import Dialler, Plain
from nodeagent.stream.link import Link
from nodeagent.stream.places import Directory, Fixed, Place
from nodeagent.stream.waiting import Wait

log = logging.getLogger(__name__)


class Pauses(Struct, frozen=True):
    """Waits between two streams, in seconds. Each is drawn from 0 to its limit, except what a replica asks for."""

    idle: float = 1.0  # between two ticks without a stream
    failed: Backoff = Backoff(0.25, 15.0)  # by rounds of the servers in which streams come to nothing
    refused: float = 60.0  # the server refuses this agent: trying often would not help
    redirected: float = 60.0  # what a replica may ask for at most
    steady: float = 1.0  # a stream that lasted so long is no failure


class Conversation(call.Conversation, Protocol):
    """The synchronous side (nodeagent.agent.Agent): what to say, given what was heard and what time it is."""

    def disconnected(self, now: float) -> None:
        """The stream ended."""

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait and where to go (empty: the own list). Cleared by the call."""


class Client:
    """Keeps `conversation` connected to one of `servers` (HOST:PORT or unix:///PATH; in turn, from a random start).

    `directory` says which places those are, where names among them have addresses.
    `defect` is told of each fault of this program that ended a stream or a tick; `count` of each stream's end
    (nodeagent.stream.ends); `early` of each pause that changed files ended.
    """

    def __init__(
        self,
        servers: Sequence[str],
        conversation: Conversation,
        jitter: Callable[[], float] = random.random,
        *,
        times: Times | None = None,
        pauses: Pauses | None = None,
        options: Options = OPTIONS,
        defect: Callable[[str, BaseException], None] | None = None,
        beside: Beside | None = None,
        dialler: Dialler | None = None,
        directory: Directory | None = None,
        count: Callable[[str], None] = lambda _: None,
        early: Callable[[], None] = lambda: None,
    ) -> None:
        self._dialler, self._count = dialler or Plain(), count
        self._wait = Wait(self._dialler.shown, early)
        self._failures = 0  # streams in a row that failed
        self._sent_away = False  # by a GoAway: the replica says when to come back
        self._targets: tuple[str, ...] = ()  # of the last GoAway
        self._directory = directory or Fixed(servers)
        self._servers: list[Place] = []  # the one that was tried last is at the end
        self._arrange()
        self._conversation = conversation
        self._jitter = jitter
        self._times = times or Times()
        self._pauses = pauses or Pauses()
        self._options = options
        self._defect = defect or supervise.Watch().failed
        self._beside = beside or Beside(self._defect)
        self._stream: Stream | None = None
        self._place: Place | None = None  # where the replica of the stream has answered
        self.link = Link(tuple(servers))
        self._said = Once[str]()  # by server, so that a long outage is two lines

    async def run(self) -> None:
        """Runs until cancelled. Raises `supervise.Ended` should a part of it end by itself."""
        await supervise.together(
            supervise.Job("stream", self._connect_for_ever()), supervise.Job("idle ticks", self._idle_ticks())
        )

    @property
    def place(self) -> Place | None:
        """Where the replica is that this agent follows; None: it follows none now."""
        return self._place

    async def aside(self, call: Callable[[], None]) -> None:
        """Runs a call of the agent that no message asks for, when no other call runs; its answers are sent soon after.

        Raises what the call raises.
        """
        stream = self._stream
        await self._beside.turn(call, long=always, before=nothing if stream is None else stream.say_unsaid)
        if self._stream is not None:
            self._stream.plan()

    async def _idle_ticks(self) -> None:
        """Without a stream the agent still retries and repairs; its answers are dropped."""
        while True:
            await asyncio.sleep(self._pauses.idle)
            if self._stream is None:
                try:
                    await self._beside.turn(
                        lambda: self._conversation.tick(time.monotonic()),
                        long=lambda: self._conversation.long_tick(time.monotonic()),
                    )
                except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt follows
                    self._defect("idle ticks", error)

    async def _connect_for_ever(self) -> None:
        while True:
            await self._directory.look()
            self._arrange()
            place = self._servers.pop(0)
            self._servers.append(place)
            began = time.monotonic()
            self._wait.attempt()
            ended = await self._one_stream(place)
            pause = self._next(ended, time.monotonic() - began)
            await (asyncio.sleep(pause) if self._sent_away else self._wait.over(pause))

    def _arrange(self) -> None:
        """The places as they are now: where a GoAway leads, those that are new, those that were tried longest ago."""
        tired = bool(self._servers) and self._failures >= len(self._servers)
        known = list(dict.fromkeys(self._directory.places(tired=tired)))
        new = [place for place in known if place not in self._servers]
        random.shuffle(new)
        self._servers = [*new, *(place for place in self._servers if place in known)]
        # A replica cannot lead the agent off its own list.
        self._servers.sort(key=lambda place: not place.among(self._targets))
        self._targets = ()

    async def _one_stream(self, place: Place) -> Ended:
        server = place.server
        self.link.tries(server)
        stream = Stream(
            self._conversation,
            self._beside,
            self._times,
            self._options,
            lambda: self._greeted(place),
            dialler=self._dialler,
            name=place.name,
        )
        self._stream = stream
        try:
            ended = await stream.run(server)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt follows
            ended = Ended(f"{type(error).__name__}: {error}", defect=error, kind=ends.DEFECT)
        except asyncio.CancelledError:
            self._beside.now(self._disconnected)
            raise
        finally:
            self._stream = self._place = None
        await self._beside.turn(self._disconnected)
        if ended.defect is not None:
            self._defect("stream", ended.defect)
        self.link.ended(ended.reason)
        self._say(server, ended.reason)
        self._count(ended.kind)
        return ended

    def _greeted(self, place: Place) -> None:
        self._place = place
        self.link.opened()
        self._say(place.server, "")
        self._directory.good(place)

    def _disconnected(self) -> None:
        self._conversation.disconnected(time.monotonic())

    def _next(self, ended: Ended, lasted: float) -> float:
        """Seconds until the next attempt; notes where a GoAway leads."""
        pauses = self._pauses
        steady = ended.heard and lasted >= pauses.steady and not ended.superseded
        self._failures = 0 if steady else self._failures + 1
        # A server that fails says nothing of the next one. Two agents of one name meet at every server.
        rounds = self._failures if ended.superseded else ceil(self._failures / len(self._servers))
        pause = self._jitter() * pauses.refused if ended.refused else pauses.failed.delay(rounds, self._jitter)
        redirect = self._conversation.redirect()
        self._sent_away = redirect is not None
        if redirect is None:
            return pause
        after, self._targets = redirect
        # The replica spreads its GoAways; only where streams are sent away as soon as they come, that is a failure.
        return (0.0 if steady else pause) + min(after, pauses.redirected)

    def _say(self, server: str, reason: str) -> None:
        if not self._said.note(server, reason):
            return
        if reason:
            event(log, logging.WARNING, "not connected; retrying", server=server, reason=reason)
        else:
            event(log, logging.INFO, "connected", server=server)
