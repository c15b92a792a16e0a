"""The requests that list and watch one collection of the API: their queries, limits and answers.

`reflector` decides when to make each. All of them raise `ApiError` if they fail.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from random import Random

import aiohttp

from controlplane.source import history
from controlplane.source.api import Api
from controlplane.source.collection import Items
from controlplane.source.decode import DecodedEvent, Decoder, Form, Malformed
from controlplane.source.limits import Limits
from controlplane.source.pages import fetch_pages, fetch_version
from controlplane.source.resource import ApiError, Resource

_EXPIRED_REASONS = {"Expired", "Gone"}


class Unreadable(ApiError):
    """A line of a watch is no event, so its content is lost."""


class Requests:
    """The requests for one resource, whose objects become facts by `form`."""

    def __init__(self, api: Api, resource: Resource, form: Form, limits: Limits, random: Random) -> None:
        self._api, self._resource, self._limits, self._random = api, resource, limits, random
        self._decoder = Decoder(form)

    @property
    def where(self) -> str:
        """The collection and the server, for error texts."""
        return f"{self._resource} at API server {self._api.server}"

    async def refresh(self) -> None:
        """Reads the credentials again."""
        await self._api.refresh()

    async def confirm(self, version: str) -> None:
        """Raises `history.Lost` if the server's version is lower than this one: its store has another history then."""
        history.check(await fetch_version(self._api, self._resource, self._page_timeout(), self._decoder), version)

    async def pages(self, stamp: int) -> tuple[Items, str]:
        """The items of all pages, and their version. If the continue token expires, it lists again without pages.

        `stamp`: Unix nanoseconds for `Fact.event_unix_nano`.
        """
        try:
            return await self._pages({"limit": str(self._limits.page_size)}, stamp)
        except ApiError as error:
            if not error.expired:
                raise
            return await self._pages({}, stamp)

    async def _pages(self, query: dict[str, str], stamp: int) -> tuple[Items, str]:
        timeout = self._page_timeout()
        return await fetch_pages(
            self._api, self._resource, self._query(query), timeout, decoder=self._decoder, stamp=stamp
        )

    def _page_timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self._limits.page, sock_connect=self._limits.connect)

    def watch(self, query: dict[str, str]) -> AsyncGenerator[list[bytes], None]:
        """The lines of a watch until the server ends it, in lists of those that arrived together."""
        seconds = self._random.uniform(*self._limits.watch)
        basis = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(int(seconds))}
        timeout = aiohttp.ClientTimeout(
            total=seconds + self._limits.page, sock_connect=self._limits.connect, sock_read=self._limits.idle
        )
        return self._api.lines(self._resource, self._query({**basis, **query}), timeout)

    def _query(self, query: dict[str, str]) -> dict[str, str]:
        return {**query, "labelSelector": self._resource.selector} if self._resource.selector else query

    def read(self, line: bytes, stamp: int) -> DecodedEvent:
        """Decodes a line of a watch. Raises `Unreadable` if it is no event, and `ApiError` for an ERROR event."""
        try:
            received = self._decoder.event(line, stamp)
        except Malformed as error:
            raise Unreadable(f"watch of {self.where}: {error}") from error
        if received.status is not None:
            code, reason = received.status.code, received.status.reason or ""
            text = f"watch of {self.where}: {received.status.message or reason}"
            raise ApiError(text, 410 if reason in _EXPIRED_REASONS else code or 500)
        return received
