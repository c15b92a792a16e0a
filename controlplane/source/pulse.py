"""Asks a silent API server whether it is alive, and ends the watches if it does not answer.

A stopped process or a lost path keeps TCP connections open, and watches are rightly silent for a minute. `silence`
decides when to ask. What is asked is a list of one object of a followed kind: the source has the right to it in any
case, it goes the way of the watches through proxies and authentication, and it reaches etcd. It waits for no other
request: with HTTP/1.1 each has a connection of its own, and the time-out includes getting one and the credentials.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

from controlplane.source.api import Api
from controlplane.source.limits import Limits
from controlplane.source.resource import UNREACHED, ApiError, Resource
from controlplane.source.silence import Silence
from deltaplane.logs import event

log = logging.getLogger(__name__)
VERB = "probe"  # in the counter of requests
_NO_LIMIT = aiohttp.ClientTimeout()  # of its own: the one around the call covers the credentials too, which aiohttp's
# would not, and ends the request in the same way


class Pulse:
    """One per source. Its reflectors watch inside `watching`, which raises `ApiError` if the server does not answer."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        limits: Limits,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._resource, self._limits = api, resource, limits
        self._sleep, self._clock = sleep, clock
        self._silence = Silence(limits.silence)
        self._scopes: set[asyncio.Timeout] = set()
        self._why = ""

    def heard(self) -> None:
        """A watch brought something."""
        self._silence.heard(self._clock())

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """The time of one watch."""
        scope = asyncio.timeout(None)
        self._silence.opened(self._clock())
        try:
            async with scope:
                self._scopes.add(scope)
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise ApiError(self._why) from None
        finally:
            self._scopes.discard(scope)
            self._silence.closed()

    async def run(self) -> None:
        """Asks whenever it is time, until cancelled."""
        while True:
            wait = self._silence.wait(self._clock())
            if wait > 0:
                await self._sleep(wait)
            else:
                await self._ask()

    async def _ask(self) -> None:
        began = self._clock()
        self._silence.asked(began)
        failure = await self._failure()
        if not failure:
            self.heard()
        elif not self._silence.since(began):  # else a watch spoke meanwhile
            self._end(failure)

    async def _failure(self) -> str:
        """Why the server does not answer; empty: it does, if only with a refusal."""
        seconds = self._limits.answer
        try:
            async with asyncio.timeout(seconds):
                await self._api.fetch(self._resource, {"limit": "1"}, _NO_LIMIT, VERB)
        except ApiError as error:
            return str(error) if error.status == UNREACHED else ""
        except TimeoutError:
            return f"API server {self._api.server} did not answer within {seconds:g} s"
        return ""

    def _end(self, failure: str) -> None:
        silent = round(self._silence.lasting(self._clock()))
        event(log, logging.WARNING, "watches are silent and the API server does not answer, ending them",
              silent_seconds=silent, watches=len(self._scopes), error=failure)  # fmt: skip
        self._why = f"all watches were silent, and: {failure}"
        scopes, self._scopes = self._scopes, set()
        for scope in scopes:
            scope.reschedule(asyncio.get_running_loop().time())
