"""The agent's gRPC edge: one stream to one replica at a time, and after each the next. Decides nothing else.

Whatever ends a stream (`nodeagent.stream.call`), the next attempt follows, at another of the servers where there is
one, with full jitter. Only the cancellation of `Client.run` itself ends it.
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
from deltaplane.logs import event
from nodeagent.stream import call
from nodeagent.stream.call import OPTIONS, Ended, Options, Stream, Times

log = logging.getLogger(__name__)


class Backoff(Struct, frozen=True):
    """Waits between two streams, in seconds. Each is drawn from 0 to its limit, except what a replica asks for."""

    idle: float = 1.0  # between two looks without a stream
    first: float = 0.25  # doubles up to `last` with each round of the servers in which streams come to nothing
    last: float = 15.0
    refused: float = 60.0  # the server will not have this agent: hammering it would not help
    redirected: float = 60.0  # what a replica may ask for at most
    steady: float = 1.0  # a stream that lasted so long came to something


class Conversation(call.Conversation, Protocol):
    """The synchronous side (nodeagent.agent.Agent): what to say, given what was heard and what time it is."""

    def disconnected(self, now: float) -> None:
        """The stream ended."""

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait and where to go (empty: the own list). Cleared by the call."""


class Client:
    """Keeps `conversation` connected to one of `servers` (HOST:PORT, tried in turn from a random start).

    `defect` is told of each fault of this program that ended a stream, or kept a look from being taken.
    """

    def __init__(
        self,
        servers: Sequence[str],
        conversation: Conversation,
        jitter: Callable[[], float] = random.random,
        *,
        times: Times | None = None,
        backoff: Backoff | None = None,
        options: Options = OPTIONS,
        defect: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self._servers = list(servers)  # the one that was tried last is at the end
        random.shuffle(self._servers)
        self._conversation = conversation
        self._jitter = jitter
        self._times = times or Times()
        self._backoff = backoff or Backoff()
        self._options = options
        self._defect = defect or supervise.Watch().failed
        self._stream: Stream | None = None
        self._failures = 0  # streams in a row that came to nothing
        self._told: dict[str, str] = {}  # server -> what was last said of it, so that a long outage is two lines

    async def run(self) -> None:
        """Runs until cancelled. Raises `supervise.Ended` should a part of it end by itself."""
        await supervise.together(
            supervise.Job("stream", self._connect_for_ever()), supervise.Job("idle ticks", self._idle_ticks())
        )

    def plan(self) -> None:
        """Has the ticker look when something is due; to be called after what happened outside the stream."""
        if self._stream is not None:
            self._stream.plan()

    async def _idle_ticks(self) -> None:
        """Retries towards the kernel go on without a control plane; answers to nobody are dropped."""
        while True:
            await asyncio.sleep(self._backoff.idle)
            if self._stream is None:
                try:
                    self._conversation.tick(time.monotonic())
                except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt follows
                    self._defect("idle ticks", error)

    async def _connect_for_ever(self) -> None:
        while True:
            server = self._servers.pop(0)
            self._servers.append(server)
            began = time.monotonic()
            ended = await self._one_stream(server)
            pause = self._next(ended, time.monotonic() - began)
            await asyncio.sleep(pause)

    async def _one_stream(self, server: str) -> Ended:
        self._stream = Stream(self._conversation, self._times, self._options, lambda: self._say(server, ""))
        try:
            ended = await self._stream.run(server)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt follows
            ended = Ended(f"{type(error).__name__}: {error}", defect=error)
        finally:
            self._stream = None
            self._conversation.disconnected(time.monotonic())
        if ended.defect is not None:
            self._defect("stream", ended.defect)
        self._say(server, ended.reason)
        return ended

    def _next(self, ended: Ended, lasted: float) -> float:
        """Seconds until the next attempt; sets the order of the servers."""
        limits = self._backoff
        steady = ended.heard and lasted >= limits.steady and not ended.superseded
        self._failures = 0 if steady else self._failures + 1
        # A server that fails says nothing of the next one. Two agents of one name meet at every server.
        rounds = self._failures if ended.superseded else ceil(self._failures / len(self._servers))
        pause = self._jitter() * (
            limits.refused if ended.refused else min(limits.last, limits.first * 2 ** min(rounds, 10))
        )
        redirect = self._conversation.redirect()
        if redirect is None:
            return pause
        after, where = redirect
        self._servers.sort(key=lambda server: server not in where)  # a replica leads nobody off the own list
        return pause + min(after, limits.redirected)

    def _say(self, server: str, reason: str) -> None:
        if self._told.get(server) == reason:
            return
        self._told[server] = reason
        if reason:
            event(log, logging.WARNING, "not connected; retrying", server=server, reason=reason)
        else:
            event(log, logging.INFO, "connected", server=server)
