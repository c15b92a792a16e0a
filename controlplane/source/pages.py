"""Lists a whole collection of the API, page by page. Called by `requests`."""

from __future__ import annotations

import asyncio

import aiohttp

from controlplane.source.api import Api
from controlplane.source.decode import Decoder, Item, Malformed
from controlplane.source.resource import ApiError, Resource
from deltaplane.model import ObjectKey


async def fetch_pages(
    api: Api, resource: Resource, query: dict[str, str], timeout: aiohttp.ClientTimeout, *, decoder: Decoder, stamp: int
) -> tuple[dict[ObjectKey, Item], str]:
    """The items by key, and the version of the list. `timeout` applies to each page.

    `stamp`: Unix nanoseconds for `Fact.event_unix_nano`. Raises `ApiError`; status 410 means that the continue token
    has expired.
    """
    items: dict[ObjectKey, Item] = {}
    query = dict(query)
    while True:
        body = await api.fetch(resource, query, timeout)
        try:
            page = await asyncio.to_thread(decoder.page, body, stamp)  # up to half a second for full slices
        except Malformed as error:
            raise ApiError(f"list of {resource} at API server {api.server}: {error}") from error
        items.update((item.key, item) for item in page.items)
        if not page.continue_token:
            return items, page.version
        query["continue"] = page.continue_token


async def fetch_version(api: Api, resource: Resource, timeout: aiohttp.ClientTimeout, decoder: Decoder) -> str:
    """The server's current version, from a list of one item. Raises `ApiError`."""
    body = await api.fetch(resource, {"limit": "1"}, timeout)
    try:
        return decoder.page(body, 0).version
    except Malformed as error:
        raise ApiError(f"list of {resource} at API server {api.server}: {error}") from error
