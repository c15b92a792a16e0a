"""Follows one collection of the Kubernetes API and tells the sink what changed: list, watch, resume, relist.

One `Reflector` per kind, run by `source.kubernetes`. Holds the last good facts by reference, so that an object which
turns unusable keeps them over a relist. Follows KEP-3157 (WatchList), KEP-956 (bookmarks) and "Efficient detection of
changes" of the API concepts: a version that answered 410, in either form, or that is not of the server's history
(`history`), is never asked again; the relist goes through `Sink.replace`, which finds the real differences. Knows
neither what objects mean (`translate`) nor HTTP (`api`).
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from random import Random

import aiohttp

from controlplane.facts import Fact, Following, Reporter, Sink
from controlplane.source import history
from controlplane.source.api import Api, ApiError, Resource, Stalled
from controlplane.source.backoff import Backoff
from controlplane.source.brake import RELIST_SECONDS, Brake, Doubtful
from controlplane.source.decode import Decoder, Item, Malformed
from controlplane.source.limits import Limits
from controlplane.source.pages import fetch_pages, fetch_version
from controlplane.source.portions import by_bytes, feed_list
from controlplane.source.reports import Reports
from controlplane.store import number_of
from deltaplane.logs import event
from deltaplane.model import Kind, ObjectKey

log = logging.getLogger(__name__)
_EXPIRED_REASONS = {"Expired", "Gone"}


class Reflector:
    """`run` until cancelled. `failure` is the last error's text while the collection cannot be followed, else empty."""

    def __init__(
        self,
        kind: Kind,
        resource: Resource,
        api: Api,
        sink: Sink,
        reporter: Reporter,
        *,
        limits: Limits | None = None,
        random: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failure = ""
        self._since = time.time_ns()  # since when it is followed, or is not
        self._doubted = False  # the server may have been restored meanwhile: the version is to be confirmed
        self._kind = kind
        self._resource = resource
        self._api = api
        self._sink = sink
        self._limits = limits or Limits()
        self._random = random or Random()
        self._sleep = sleep
        self._clock = clock
        self._backoff = Backoff(random=self._random, clock=clock)
        self._brake = Brake(self._limits.doubt)
        self._decoder = Decoder(kind)
        self._reports = Reports(reporter)
        self._good: dict[ObjectKey, Fact] = {}
        self._version = ""  # where to resume; empty: list first
        self._paged = False  # the server did not take or not finish a WatchList: list by pages next time
        self._synced = False
        self._absent = False  # an optional resource that the server does not serve
        self._initial: dict[ObjectKey, Item] | None = None  # the WatchList's first events, until its end bookmark

    @property
    def failure(self) -> str:
        return self._failure

    @failure.setter
    def failure(self, text: str) -> None:
        if bool(text) != bool(self._failure):
            self._since = time.time_ns()
        self._failure = text

    @property
    def following(self) -> Following:
        """How the collection is followed now."""
        error = self._failure or ("" if self._synced else "not listed yet")
        return Following(str(self._resource), self._since, error, self._version)

    async def run(self) -> None:
        while True:
            before = self._version
            try:
                await self._step()
                if self._version != before:
                    continue  # a stream that ended in good order after it brought something: go on at once
                self._doubted = True
                delay = self._backoff.next()
            except ApiError as error:
                delay = await self._fail(error)
            except Exception as error:  # noqa: BLE001 - a fault of ours with one answer; the other kinds are followed on
                delay = self._stumble(error)
            await self._sleep(delay)

    def _stumble(self, error: Exception) -> float:
        """After what nobody foresaw: how much of the answer was taken in is unknown, so only a relist can tell."""
        self._version = ""
        text = f"{type(error).__name__}: {error}"
        if text != self.failure:
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{at.filename}:{at.lineno}"
            event(log, logging.ERROR, "unforeseen, listing again", resource=self._resource, error=text, at=where)
            log.debug("where it came from", exc_info=error)
        self.failure = text
        return self._backoff.next()

    async def _step(self) -> None:
        if self._version:
            await self._confirm()
            await self._watch({"resourceVersion": self._version})
        elif self._paged:
            await self._list()
        else:
            await self._watch_list()

    async def _confirm(self) -> None:
        """Whether the server still has the history that our version is of, after it may have been another's.

        A watch from a version yet to come is taken, and is silent, bookmarks and all, until the version is reached.
        """
        if self._doubted:
            version = await fetch_version(self._api, self._resource, self._page_timeout(), self._decoder)
            history.check(version, self._version)
            self._doubted = False

    async def _fail(self, error: ApiError) -> float:
        """What to do next, and the seconds to wait before."""
        self._doubted = True
        if self._resource.optional and error.status in (403, 404):
            await self._do_without(error.status)
        if self._absent and error.status == 404:
            return self._random.uniform(*self._limits.lookout)
        if isinstance(error, history.Lost):
            self._version = ""
            self._say("listing again", error)
        elif self._version and history.leads_nowhere(error):
            self._version = ""
            level = logging.INFO if error.expired else logging.WARNING
            event(log, level, "version leads nowhere, listing again", resource=self._resource, reason=error)
        elif isinstance(error, Stalled) and self._version:
            event(log, logging.INFO, "watch is silent, resuming", resource=self._resource)
        elif isinstance(error, Doubtful):
            self._version = ""
            self._say("safety brake: list held", error, logging.ERROR, "reason")
        else:
            self._say("cannot follow the API, trying again", error)
        if error.strangers:
            await self._api.refresh()
        return max(error.retry_after, self._backoff.next())

    def _say(self, what: str, error: ApiError, level: int = logging.WARNING, name: str = "error") -> None:
        """Once, until it is another error or the collection is followed again."""
        if str(error) != self.failure:
            self.failure = str(error)
            event(log, level, what, resource=self._resource, **{name: error})

    async def _do_without(self, status: int) -> None:
        """An optional resource that is forbidden or not served must not keep the others from being served.

        Where it is forbidden, what was learnt stays. Where the server has none (404), there is nothing, and it is
        looked for seldom: it comes with another version of the server.
        """
        if status == 404:
            self._recover()
            if not self._absent:
                await self._settle({}, "")
                event(log, logging.INFO, "not served by this API server, taken as none", resource=self._resource)
            self._absent = True
        elif not self._synced:
            await self._settle({}, "")

    def _recover(self) -> None:
        if self.failure:
            self.failure = ""
            event(log, logging.INFO, "following the API again", resource=self._resource)

    # Lists

    async def _watch_list(self) -> None:
        """The list as a stream, then the watch on it.

        A server that cannot says so by status (before 1.27, or switched off) or inside the stream (its etcd reports no
        progress); one that neither ends its list nor goes on is asked for pages the next time.
        """
        self._initial = {}
        try:
            await self._watch({"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"})
            self._paged = self._initial is not None
        except ApiError as error:
            if self._initial is not None:
                self._paged = error.unsupported or isinstance(error, Stalled)
            if not self._paged or not error.unsupported:
                raise
            event(log, logging.INFO, "no streamed list, listing by pages", resource=self._resource, reason=error)
            await self._list()
        finally:
            self._initial = None

    async def _list(self) -> None:
        """All pages; without a size limit when the continue token expires on the way."""
        try:
            items, version = await self._pages(self._limits.page_size)
        except ApiError as error:
            if not error.expired:
                raise
            items, version = await self._pages(0)
        self._paged = False
        await self._replace(items, self._sound(version))

    async def _pages(self, size: int) -> tuple[dict[ObjectKey, Item], str]:
        timeout = self._page_timeout()
        query = self._query({"limit": str(size)} if size else {})
        return await fetch_pages(self._api, self._resource, query, timeout, decoder=self._decoder, stamp=self._stamp())

    def _page_timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self._limits.page, sock_connect=self._limits.connect)

    def _stamp(self) -> int:
        """When a difference found by a relist was learnt; the first list is no event."""
        return time.time_ns() if self._synced else 0

    async def _replace(self, items: dict[ObjectKey, Item], version: str) -> None:
        """Takes a whole list. Raises `Doubtful` where it lacks too much of what is known."""
        known, gone = len(self._good), sum(key not in items for key in self._good)
        if self._brake.holds(known, gone, self._clock()):
            text = (
                f"it lacks {gone} of {known} objects; what is known stays until lists agree for {self._limits.doubt} s"
            )
            raise Doubtful(text, retry_after=RELIST_SECONDS)
        if self._brake.lists:
            event(log, logging.WARNING, "lists agree: what they lack is gone", resource=self._resource, objects=gone)
        await self._settle(items, version)
        event(log, logging.INFO, "listed", resource=self._resource, objects=len(self._good), version=version)

    async def _settle(self, items: dict[ObjectKey, Item], version: str) -> None:
        """What is new in the list goes on in portions, oldest first; the list as a whole then says what is gone."""
        for item in items.values():
            self._reports.record(str(item.key), item.problems)
        self._reports.retain({str(key) for key in items})
        facts = [self._good.get(key) if item.fact is None else item.fact for key, item in items.items()]
        good = {fact.key: fact for fact in facts if fact is not None and fact.object is not None}
        await feed_list(self._sink, sorted(good.values(), key=lambda fact: number_of(fact.resource_version)))
        self._good = good
        self._version = version
        self._sink.replace(self._kind, list(self._good.values()), version)
        self._sink.synced(self._kind)
        self._synced = True
        self._doubted = False
        self._absent = False
        self._recover()

    # Watches

    async def _watch(self, query: dict[str, str]) -> None:
        """Until the server ends it. Raises `ApiError`."""
        seconds = self._random.uniform(*self._limits.watch)
        basis = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(int(seconds))}
        timeout = aiohttp.ClientTimeout(
            total=seconds + self._limits.page, sock_connect=self._limits.connect, sock_read=self._limits.idle
        )
        async with aclosing(self._api.lines(self._resource, self._query({**basis, **query}), timeout)) as arrivals:
            async for lines in arrivals:
                if self._initial is None:
                    self._recover()
                await self._take(lines)

    def _query(self, query: dict[str, str]) -> dict[str, str]:
        return {**query, "labelSelector": self._resource.selector} if self._resource.selector else query

    async def _take(self, lines: Sequence[bytes]) -> None:
        """What arrived together goes on together, in bounded portions."""
        now = time.time_ns()
        for number, portion in enumerate(by_bytes(lines, self._limits.batch)):
            if number:
                await asyncio.sleep(0)
            facts: list[Fact] = []
            try:
                for line in portion:
                    version = self._event(line, now, facts)
                    if version is not None:
                        await self._end_list(version)
            finally:
                if facts:
                    self._sink.update(facts)

    async def _end_list(self, version: str) -> None:
        """The WatchList's first events are a whole list."""
        items, self._initial = self._initial or {}, None
        await self._replace(items, self._sound(version))

    def _event(self, line: bytes, now: int, facts: list[Fact]) -> str | None:
        """Takes one line in; gives the version of the list that ends with it, if one does."""
        stamp = self._stamp() if self._initial is not None else now
        try:
            received = self._decoder.event(line, stamp)
        except Malformed as error:
            self._version = ""  # what the line said is lost: only a relist can tell
            raise ApiError(f"watch of {self._resource} at API server {self._api.server}: {error}") from error
        if received.status is not None:
            code, reason = received.status.code, received.status.reason or ""
            text = f"watch of {self._resource} at API server {self._api.server}: {received.status.message or reason}"
            raise ApiError(text, 410 if reason in _EXPIRED_REASONS else code or 500)
        if self._initial is None:  # the first events of a WatchList come in no order
            self._sound(received.version, self._version)
        if received.item is not None:
            self._change(received.item, facts)
        if self._initial is None:
            self._version = received.version or self._version
        elif received.initial_end:
            return received.version
        return None

    def _sound(self, version: str, known: str = "") -> str:
        """The version, after `known`, if a watch can go on from it. Raises `Lost` before anything is taken in."""
        try:
            history.check(version, known)
        except history.Lost as error:
            raise history.Lost(f"{self._resource} at API server {self._api.server}: {error}") from None
        return version

    def _change(self, item: Item, facts: list[Fact]) -> None:
        if self._initial is not None:
            if item.deleted:
                self._initial.pop(item.key, None)
            else:
                self._initial[item.key] = item
            return
        self._reports.record(str(item.key), item.problems)
        if item.fact is None:
            return  # unusable: the last good state stays
        if item.fact.object is None:
            self._good.pop(item.key, None)
        else:
            self._good[item.key] = item.fact
        facts.append(item.fact)
