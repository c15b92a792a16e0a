"""Follows one collection of the Kubernetes API and tells the sink what changed: list, watch, resume, relist.

`source.kubernetes` runs one `Reflector` per kind. `phases` decides the next request, `requests` makes it, and
`Collection` has the known state. It follows KEP-3157 (WatchList), KEP-956 (bookmarks) and "Efficient detection of
changes" of the API concepts: it never repeats a version that got a 410, in either form, or that is not of the server's
history. A relist goes through `Sink.replace`, which finds the real differences.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from random import Random

from controlplane.facts import Fact, Following, Reporter, Sink
from controlplane.source.api import Api
from controlplane.source.collection import Collection, Items, oldest_first
from controlplane.source.decode import Form, form_of
from controlplane.source.limits import Limits
from controlplane.source.phases import FOLLOWS, End, Phase, judge
from controlplane.source.portions import by_bytes, feed_list
from controlplane.source.pulse import Pulse
from controlplane.source.requests import Requests, Unreadable
from controlplane.source.resource import ApiError, Resource, Stalled
from controlplane.source.standing import Standing
from deltaplane import moments
from deltaplane.backoff import Backoff, Retries
from deltaplane.logs import event
from deltaplane.model import Kind
from deltaplane.states import Machine

log = logging.getLogger(__name__)
BACKOFF, QUIET = Backoff(0.2, 5.0), 60.0  # seconds; after QUIET without a failure, the delays start again


class Reflector:
    """`run` until cancelled. `form`: how the objects are read, if not as a Service proxy reads them.

    `pulse`: the source's; it ends the watches if the server does not answer. Without one, `Limits.idle` alone does.
    """

    def __init__(
        self,
        kind: Kind,
        resource: Resource,
        api: Api,
        sink: Sink,
        reporter: Reporter,
        *,
        form: Form | None = None,
        limits: Limits | None = None,
        pulse: Pulse | None = None,
        random: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind, self._resource, self._sink = kind, resource, sink
        self._limits = limits or Limits()
        self._pulse = pulse or Pulse(api, resource, self._limits)
        self._random = random or Random()
        self._sleep, self._clock = sleep, clock
        self._retries = Retries(BACKOFF, self._random.random, QUIET)
        self._requests = Requests(api, resource, form or form_of(kind), self._limits, self._random)
        self._known = Collection(lambda: self._requests.where, reporter, self._limits.doubt)
        self._asking = Machine(FOLLOWS)
        self._standing = Standing(moments.unix_nano)
        self._absent = False  # an optional resource that the server does not serve
        self._silent = 0  # watches in a row that brought nothing and stalled

    @property
    def failure(self) -> str:
        """The last error's text while the collection cannot be followed, else empty."""
        return self._standing.failure

    @property
    def following(self) -> Following:
        """How the collection is followed now."""
        error = self.failure or ("" if self._known.complete else "not listed yet")
        return Following(str(self._resource), self._standing.since_unix_nano, error, self._known.version)

    async def run(self) -> None:
        while True:
            try:
                delay = await self._attempt()
            except Exception as error:  # noqa: BLE001 - a defect of ours; the other kinds are not affected
                delay = self._stumble(error)
            if delay is not None:
                await self._sleep(delay)

    async def _attempt(self) -> float | None:
        """One step; returns the delay before the next, None if it follows at once."""
        before = self._known.version
        try:
            await self._step()
        except ApiError as error:
            stalled = isinstance(error, Stalled) and self._known.version == before
            self._silent = self._silent + 1 if stalled else 0
            return await self._fail(error)
        self._silent = 0
        return self._ended(brought=self._known.version != before)

    async def _step(self) -> None:
        if self._asking.state is Phase.CONFIRMING:
            await self._confirm()
        if self._asking.state is Phase.WATCHING:
            await self._watch({"resourceVersion": self._known.version})
        elif self._asking.state is Phase.PAGING:
            await self._list()
        else:
            await self._watch_list()

    def _ended(self, *, brought: bool) -> float | None:
        """The delay after a request without an error; None if it made progress."""
        if self._asking.state is Phase.WATCHING:
            self._move(End.ENDED if brought else End.QUIET)
        return None if self._asking.state is Phase.WATCHING else self._retries.failed(self._clock())

    async def _fail(self, error: ApiError) -> float:
        """Acts on an error; returns the seconds to wait."""
        if self._resource.optional and error.status in {403, 404}:
            await self._do_without(error.status)
        if self._absent and error.status == 404:
            return self._random.uniform(*self._limits.lookout)
        self._act(error)
        if error.strangers:
            await self._requests.refresh()
        return max(error.retry_after, self._retries.failed(self._clock()))

    def _act(self, error: ApiError) -> None:
        verdict = judge(error, self._asking.state, self._silent)
        self._move(verdict.end)
        if not verdict.lasting or self._standing.failed(str(error)):
            why = {verdict.name: error} if verdict.name else {}
            event(log, verdict.level, verdict.text, resource=self._resource, **why)

    def _move(self, end: End) -> None:
        if end in {End.LOST, End.UNKNOWN}:
            self._known.version = ""  # the next request is a list
        self._asking.move(end)

    def _stumble(self, error: Exception) -> float:
        """After an unexpected exception: it is unknown how much of the answer was taken, so it lists again."""
        self._move(End.UNKNOWN)
        text = f"{type(error).__name__}: {error}"
        if self._standing.failed(text):
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{at.filename}:{at.lineno}"
            event(log, logging.ERROR, "unforeseen, listing again", resource=self._resource, error=text, at=where)
            log.debug("where it came from", exc_info=error)
        return self._retries.failed(self._clock())

    async def _do_without(self, status: int) -> None:
        """Completes an optional resource that is forbidden or not served, so that the other kinds can be streamed.

        If it is forbidden, its known objects stay. If the server does not have it (404), it has no objects, and the
        next tries are rare: only another version of the server may have it.
        """
        if status == 404:
            self._recover()
            if not self._absent:
                await self._settle({}, "", End.UNKNOWN)
                event(log, logging.INFO, "not served by this API server, taken as none", resource=self._resource)
            self._absent = True
        elif not self._known.complete:
            await self._settle({}, "", End.UNKNOWN)

    def _recover(self) -> None:
        if self._standing.recovered():
            event(log, logging.INFO, "following the API again", resource=self._resource)

    async def _watch_list(self) -> None:
        """Gets the list as a stream, then watches in the same request.

        A server without that feature says so by a status (before 1.27, or switched off) or inside the stream (its etcd
        reports no progress). If it neither ends the list nor sends more, the next request is a list by pages.
        """
        self._known.begin_list()
        try:
            await self._watch({"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"})
            if self._known.listing:
                self._move(End.UNSUPPORTED)
        except ApiError as error:
            if self._known.listing and (error.unsupported or isinstance(error, Stalled)):
                self._move(End.UNSUPPORTED)
            if self._asking.state is not Phase.PAGING or not error.unsupported:
                raise
            event(log, logging.INFO, "no streamed list, listing by pages", resource=self._resource, reason=error)
            await self._list()
        finally:
            self._known.end_list()

    async def _list(self) -> None:
        items, version = await self._requests.pages(self._stamp())
        await self._replace(items, self._known.sound(version))

    def _stamp(self) -> int:
        """The event time for objects of a list: now, or 0 for the first list, which is no event."""
        return moments.unix_nano() if self._known.complete else 0

    async def _replace(self, items: Items, version: str) -> None:
        """Takes a complete list. Raises `Doubtful` if it lacks too many of the known objects."""
        agreed = self._known.weigh(items, self._clock())
        if agreed:
            event(log, logging.WARNING, "lists agree: what they lack is gone", resource=self._resource, objects=agreed)
        await self._settle(items, version, End.LISTED if version else End.UNVERSIONED)
        event(log, logging.INFO, "listed", resource=self._resource, objects=len(self._known.good), version=version)

    async def _settle(self, items: Items, version: str, end: End) -> None:
        """Passes the list on: first what is new, in portions and oldest first; then as a whole, for what is gone."""
        good = self._known.usable(items)
        await feed_list(self._sink, oldest_first(good))
        self._known.settle(good, version)
        self._move(end)
        self._sink.replace(self._kind, list(good.values()), version)
        self._sink.synced(self._kind)
        self._known.complete = True
        self._absent = False
        self._recover()

    async def _confirm(self) -> None:
        """Checks that the server still has the history of our version, after a failure or a silent watch.

        A server accepts a watch from a future version, and sends nothing, not even bookmarks, until it has reached it.
        """
        await self._requests.confirm(self._known.version)
        self._move(End.CONFIRMED)

    async def _watch(self, query: dict[str, str]) -> None:
        """Watches until the server ends the watch. Raises `ApiError`."""
        async with self._pulse.watching(), aclosing(self._requests.watch(query)) as arrivals:
            async for lines in arrivals:
                self._pulse.heard()
                if not self._known.listing:
                    self._recover()
                await self._take(lines)

    async def _take(self, lines: Sequence[bytes]) -> None:
        """Passes on what arrived together in one update, or in several if it is large."""
        now = moments.unix_nano()
        for number, portion in enumerate(by_bytes(lines, self._limits.batch)):
            if number:
                await asyncio.sleep(0)
            facts: list[Fact] = []
            try:
                for line in portion:
                    await self._take_line(line, now, facts)
            finally:
                if facts:
                    self._sink.update(facts)

    async def _take_line(self, line: bytes, now: int, facts: list[Fact]) -> None:
        try:
            received = self._requests.read(line, self._stamp() if self._known.listing else now)
        except Unreadable:
            self._move(End.LOST)  # only a list can tell what the line said
            raise
        if self._known.take(received, facts):
            await self._replace(self._known.end_list(), self._known.sound(received.version))
